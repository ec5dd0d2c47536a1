// Fields that hold other fields: a choice between members, a group, a list of items, names with values.

import { el, say } from "../run/dom.js";
import { choiceField, listField, numberField, prose, row, rowsField, switchField, textField } from "./fields.js";
import { datasetField } from "./datasets.js";
import { copy, fieldsOf, memberOf } from "./state.js";

const DRAW = {
  text: textField,
  number: numberField,
  list: listField,
  rows: rowsField,
  choice: choiceField,
  switch: switchField,
  dataset: datasetField,
  mapping: mappingField,
  union: unionField,
  group: groupField,
  items: itemsField,
};

export function field(form, cell) {
  return DRAW[cell.node.kind](form, cell);
}

export function fields(form, cell) {
  return fieldsOf(cell.node, cell.shown()).map((node) => field(form, cell.child(node)));
}

// A choice, what it is, and the fields of the chosen member alone.
function unionField(form, cell) {
  const { node } = cell;
  const told = el("p", { class: "told" });
  const inner = el("div", { class: "fields" });
  const draw = () => {
    const member = memberOf(node, cell.shown());
    told.replaceChildren(...(member ? about(member) : []));
    form.forget(cell);
    inner.replaceChildren(...fields(form, cell));
    inner.hidden = !inner.firstChild;
  };
  const place = row(form, cell, (attributes) => {
    const select = kinds(form, cell, attributes, draw);
    return { place: el("div", { class: "choice" }, select, told), focus: select };
  }, { wide: true, inline: true });
  place.classList.add("union");
  place.append(inner);
  draw();
  return place;
}

function kinds(form, cell, attributes, draw) {
  const { node } = cell;
  const select = el("select", attributes);
  if (cell.shown() === undefined) select.append(el("option", { value: "" }, "choose…"));
  for (const option of node.options) select.append(el("option", { value: option.kind }, option.label));
  select.value = cell.shown()?.kind ?? "";
  select.disabled = node.options.length === 1 && Boolean(cell.shown());
  select.addEventListener("change", () => {
    form.keep(cell);
    cell.write(form.kept(cell, select.value) ?? carried(node, cell.shown(), select.value));
    draw();
    form.marked();
  });
  return select;
}

// A new member's value, with what was typed for fields that both have.
function carried(node, before, kind) {
  const [old, now] = [memberOf(node, before), node.options.find((option) => option.kind === kind)];
  const shared = (now?.fields ?? []).filter((f) => f.name in (before ?? {}) && f.kind !== "union" &&
    old?.fields.some((g) => g.name === f.name && g.kind === f.kind));
  return { kind, ...Object.fromEntries(shared.map((f) => [f.name, copy(before[f.name])])) };
}

function about(member) {
  const source = [member.source, member.reconstruction ? "a reconstruction" : ""].filter(Boolean).join("; ");
  return [
    ...prose(member.help ?? ""),
    source ? el("span", { class: "source" }, ` ${source}. `) : null,
    member.page ? el("a", { href: member.page, target: "_blank", rel: "noopener" }, "About the method") : null,
  ].filter(Boolean);
}

function groupField(form, cell) {
  if (cell.node.nullable) return groupOrNone(form, cell);
  const inner = el("div", { class: "fields" }, ...fields(form, cell));
  return row(form, cell, () => ({ place: inner, focus: inner.querySelector("input, select, textarea") ?? inner }), { wide: true, legend: true });
}

function groupOrNone(form, cell) {
  const inner = el("div", { class: "fields" });
  const draw = (on) => {
    form.forget(cell);
    inner.replaceChildren(...(on ? fields(form, cell) : []));
    inner.hidden = !on;
  };
  const place = row(form, cell, (attributes) => {
    const box = el("input", { ...attributes, type: "checkbox" });
    box.checked = Boolean(cell.shown());
    const word = el("span", { "aria-hidden": "true" }, box.checked ? "yes" : "no");
    box.addEventListener("change", () => {
      say(word, box.checked ? "yes" : "no");
      if (!box.checked) form.keep(cell);
      cell.write(box.checked ? (form.kept(cell, "") ?? {}) : undefined);
      draw(box.checked);
      form.marked();
    });
    return { place: el("div", { class: "check" }, box, word), focus: box };
  }, { wide: true, inline: true });
  place.append(inner);
  draw(Boolean(cell.shown()));
  return place;
}

function itemsField(form, cell) {
  const { node } = cell;
  const list = el("div", { class: "items" });
  const one = singular(node.label);
  const add = el("button", { type: "button" }, `Add ${one}`);
  const values = () => cell.shown() ?? [];
  const draw = () => {
    form.forget(cell);
    list.replaceChildren(...values().map((_, index) => item(form, cell, index, one, remove)));
  };
  const remove = (index) => {
    cell.write(values().filter((_, i) => i !== index));
    draw();
    add.focus();
    form.marked();
  };
  add.addEventListener("click", () => {
    cell.write([...values(), node.of.kind === "union" ? { kind: node.of.options[0].kind } : {}]);
    draw();
    list.lastElementChild.querySelector("input, select")?.focus();
    form.marked();
  });
  draw();
  return row(form, cell, () => ({ place: el("div", {}, list, add), focus: add }), { wide: true, legend: true });
}

function item(form, cell, index, one, remove) {
  const part = cell.at(index);
  part.node.label = `${one[0].toUpperCase()}${one.slice(1)} ${index + 1}`;
  const button = el("button", { type: "button", class: "quiet", "aria-label": `Remove ${part.node.label.toLowerCase()}` }, "Remove");
  button.addEventListener("click", () => remove(index));
  return el("div", { class: "item" }, field(form, part), button);
}

const SINGULAR = { "Slow trainers": "slow trainers", "Groups of parameters": "group" };
function singular(label) {
  return SINGULAR[label] ?? label.toLowerCase().replace(/s$/, "");
}

// Values as JSON where they are, as text otherwise: 32, true, [1, 2], "32".
function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const textOf = (value) => (typeof value === "string" && valueOf(value) === value ? value : JSON.stringify(value));

function mappingField(form, cell) {
  const list = el("div", { class: "pairs" });
  const add = el("button", { type: "button" }, `Add ${singular(cell.node.label)}`);
  let pairs = Object.entries(cell.shown() ?? {}).map(([name, value]) => [name, textOf(value)]);
  const store = () => {
    const named = pairs.filter(([name]) => name !== "");
    cell.write(named.length ? Object.fromEntries(named.map(([name, text]) => [name, valueOf(text)])) : undefined);
  };
  const draw = () => list.replaceChildren(...pairs.map((pair, index) => pairRow(pair, store, () => {
    pairs = pairs.filter((_, i) => i !== index);
    store();
    draw();
    add.focus();
  })));
  add.addEventListener("click", () => {
    pairs.push(["", ""]);
    draw();
    list.lastElementChild.querySelector("input").focus();
  });
  draw();
  return row(form, cell, () => ({ place: el("div", {}, list, add), focus: add }), { wide: true, legend: true });
}

function pairRow(pair, store, drop) {
  const [name, value] = ["Name", "Value"].map((label, index) => {
    const input = el("input", { type: "text", "aria-label": label, placeholder: label.toLowerCase(), autocomplete: "off" });
    input.value = pair[index];
    input.addEventListener("input", () => {
      pair[index] = input.value;
      store();
    });
    return input;
  });
  const button = el("button", { type: "button", class: "quiet", "aria-label": `Remove ${pair[0] || "this parameter"}` }, "Remove");
  button.addEventListener("click", drop);
  return el("div", { class: "pair" }, name, value, button);
}

// What is chosen, in a line: for parts that are folded.
export function describe(cell) {
  const { node } = cell;
  const value = cell.shown();
  const label = node.label;
  if (node.kind === "union") return `${label}: ${memberOf(node, value)?.label.toLowerCase() ?? "–"}`;
  if (node.kind === "group") return node.fields.slice(0, 2).map((f) => describe(cell.child(f))).join(", ");
  if (node.kind === "items") return value?.length ? `${label}: ${value.length}` : `no ${label.toLowerCase()}`;
  if (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length)) return `${label}: none`;
  if (node.kind === "mapping") return `${label}: ${Object.entries(value).map((pair) => pair.join("=")).join(", ") || "none"}`;
  if (node.long) return `${label}: ${[...value].length} characters`;
  return `${label}: ${Array.isArray(value) ? value.join(", ") : value}${node.unit ? ` ${counted(value, node.unit)}` : ""}`;
}

const ONE = { passes: "pass", s: "s", batches: "batch", processes: "process" };
const counted = (value, unit) => (value === 1 ? (ONE[unit] ?? unit.replace(/s$/, "")) : unit);

