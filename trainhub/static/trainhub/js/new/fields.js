// One field: its label, its control, its help, its error, and the way back to its default.

import { el, say } from "../run/dom.js";

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

// Text as it was typed: what is no number stays text, so that the check can say so and nothing is lost.
export function number(text) {
  const clean = text.trim();
  return NUMBER.test(clean) && Number.isFinite(Number(clean)) ? Number(clean) : clean;
}

export const listText = (values) => (Array.isArray(values) ? values.join(", ") : (values ?? ""));

export function listOf(text, of) {
  const parts = text.split(",").map((part) => part.trim()).filter((part) => part !== "");
  return of === "number" ? parts.map(number) : parts;
}

// `code` in help texts, as the docstrings write it.
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

export const idOf = (path) => `f-${path.join("-")}`;

// A field's row. `control` makes its input from attributes that tie it to its help and error.
export function row(form, cell, control, { wide = false, legend = false, inline = false } = {}) {
  const { node } = cell;
  const id = idOf(cell.path);
  const described = [node.help ? `${id}-help` : "", `${id}-error`].filter(Boolean).join(" ");
  const help = node.help ? el(inline || legend ? "span" : "p", { class: "help", id: `${id}-help` }, ...prose(node.help)) : null;
  const input = control({ id, "aria-describedby": described, ...(node.required ? { "aria-required": "true" } : {}) });
  const reset = resetButton(form, cell, id);
  const words = node.label ?? "";
  const place = el(
    legend ? "fieldset" : "div",
    { class: `field${wide ? " wide" : ""}`, "data-path": cell.path.join(".") },
    el(legend ? "legend" : "div", { class: "field-head" }, ...heading(node, id, words, legend), reset, inline || legend ? help : null),
    input.place ?? input,
    inline || legend ? null : help,
    el("p", { class: "error", id: `${id}-error`, hidden: true }),
  );
  form.rows.set(cell.path.join("."), { place, cell, reset, focus: input.place ? input.focus : input });
  return place;
}

function heading(node, id, words, legend) {
  const told = node.unit && node.unit !== words.toLowerCase(); // `Passes`, in passes, goes without saying
  const unit = told ? el("span", { class: "unit" }, node.unit) : null;
  return legend ? [el("span", {}, words), unit] : [el("label", { for: id }, words), unit].filter(Boolean);
}

function resetButton(form, cell, id) {
  const button = el("button", { type: "button", class: "reset", "aria-label": `Reset ${cell.node.label ?? ""}`, hidden: true }, "reset");
  button.addEventListener("click", () => {
    cell.write(undefined);
    form.redraw(cell);
    document.getElementById(id)?.focus();
  });
  return button;
}

// Show what is wrong with a field, or nothing.
export function showError(place, focus, messages) {
  const error = place.querySelector(":scope > .error");
  // A grid says the same of many runs.
  const [first = "", ...others] = new Set(messages);
  say(error, others.length ? `${first} And ${others.length} more like it.` : first);
  error.hidden = messages.length === 0;
  place.classList.toggle("wrong", messages.length > 0);
  if (messages.length) focus.setAttribute("aria-invalid", "true");
  else focus.removeAttribute("aria-invalid");
}

const typed = (text) => (text.trim() === "" ? undefined : text);

export function textField(form, cell) {
  const { node } = cell;
  return row(form, cell, (attributes) => {
    const input = el(node.long ? "textarea" : "input", { ...attributes, autocomplete: "off", spellcheck: node.long ? "true" : "false", ...(node.long ? { rows: 3 } : { type: "text" }) });
    input.value = cell.value() ?? "";
    input.placeholder = cell.fallback() ?? "";
    input.addEventListener("input", () => cell.write(typed(input.value)));
    return input;
  }, { wide: node.long || node.wide });
}

export function numberField(form, cell) {
  if (cell.node.nullable && cell.fallback() !== null) return numberOrOff(form, cell);
  return row(form, cell, (attributes) => numberInput(cell, attributes));
}

function numberInput(cell, attributes) {
  const input = el("input", { ...attributes, type: "text", inputmode: cell.node.whole ? "numeric" : "decimal", autocomplete: "off" });
  input.value = cell.value() ?? "";
  const fallback = cell.fallback();
  input.placeholder = fallback ?? (cell.node.nullable ? "–" : "");
  input.addEventListener("input", () => cell.write(typed(input.value) === undefined ? undefined : number(input.value)));
  return input;
}

// A number that is there unless it is switched off.
function numberOrOff(form, cell) {
  return row(form, cell, (attributes) => {
    const input = numberInput(cell, attributes);
    const off = el("input", { type: "checkbox", "aria-label": `${cell.node.label}: off` });
    off.checked = cell.value() === null;
    input.disabled = off.checked;
    off.addEventListener("change", () => {
      input.disabled = off.checked;
      cell.write(off.checked ? null : typed(input.value) && number(input.value));
    });
    return { place: el("div", { class: "beside" }, input, el("label", { class: "check" }, off, "off")), focus: input };
  });
}

export function listField(form, cell) {
  const { node } = cell;
  return row(form, cell, (attributes) => {
    const input = el("input", { ...attributes, type: "text", autocomplete: "off", inputmode: "text" });
    const fallback = cell.fallback();
    input.value = listText(cell.value());
    input.placeholder = listText(fallback) || (node.nullable ? "all" : "separated by commas");
    input.addEventListener("input", () => cell.write(typed(input.value) && listOf(input.value, node.of)));
    return input;
  });
}

// Lists of numbers, one a line.
export function rowsField(form, cell) {
  return row(form, cell, (attributes) => {
    const input = el("textarea", { ...attributes, rows: 4, class: "mono", spellcheck: "false", placeholder: "0.9, 1.1, 1.0" });
    input.value = (cell.value() ?? []).map(listText).join("\n");
    input.addEventListener("input", () => {
      const lines = input.value.split("\n").filter((line) => line.trim());
      cell.write(lines.length ? lines.map((line) => listOf(line, "number")) : undefined);
    });
    return input;
  }, { wide: true });
}

export function choiceField(form, cell) {
  const { node } = cell;
  return row(form, cell, (attributes) => {
    const select = el("select", attributes);
    if (cell.shown() === undefined) select.append(el("option", { value: "" }, "choose…"));
    for (const option of node.options) select.append(el("option", { value: option.value }, option.label));
    select.value = cell.shown() ?? "";
    select.disabled = node.options.length === 1;
    select.addEventListener("change", () => cell.write(node.options.find((o) => String(o.value) === select.value)?.value));
    return select;
  });
}

export function switchField(form, cell) {
  const { node } = cell;
  return row(form, cell, (attributes) => {
    const box = el("input", { ...attributes, type: "checkbox" });
    box.checked = cell.shown() === true;
    const word = el("span", { "aria-hidden": "true" }, box.checked ? "yes" : "no");
    box.addEventListener("change", () => {
      say(word, box.checked ? "yes" : "no");
      cell.write(box.checked === cell.fallback() ? undefined : box.checked);
    });
    return { place: el("div", { class: "check" }, box, word), focus: box };
  });
}
