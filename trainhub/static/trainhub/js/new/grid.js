// Several runs of one spec: a seed each, and fields with the values to try.

import { byId, el } from "../run/dom.js";
import { number, showError } from "./fields.js";
import { showCount } from "./form.js";
import { fieldsOf } from "./state.js";

const MOST_SEEDS = 100;
const CONSTANTS = { true: true, false: false, null: null };

// `0.1, 0.2` and `constant, {kind: adadelay, kappa: 0.1}`: commas inside of braces and brackets don't part values.
export function valuesOf(text) {
  return parts(text).map(valueOf);
}

function parts(text) {
  const found = [""];
  let depth = 0;
  for (const sign of text) {
    if ("{[".includes(sign)) depth += 1;
    if ("}]".includes(sign)) depth -= 1;
    if (sign === "," && depth === 0) found.push("");
    else found[found.length - 1] += sign;
  }
  return found.map((part) => part.trim()).filter((part) => part !== "");
}

function valueOf(text) {
  if (text in CONSTANTS) return CONSTANTS[text];
  if (!/^[{[]/.test(text)) return number(text);
  const inner = text.slice(1, -1);
  if (text.startsWith("[")) return parts(inner).map(valueOf);
  const pairs = parts(inner).map((part) => {
    const [name, ...rest] = part.split(":");
    return [name.trim().replace(/^"|"$/g, ""), valueOf(rest.join(":").trim().replace(/^"|"$/g, ""))];
  });
  return Object.fromEntries(pairs);
}

// Seeds of the runs; none where it is one run.
export function seedsOf({ count, list }, first) {
  if (list.trim()) return valuesOf(list);
  const wanted = count.trim() === "" ? 1 : number(count);
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MOST_SEEDS) return ["a count from 1 to 100", wanted];
  return wanted === 1 ? [] : Array.from({ length: wanted }, (_, index) => first + index);
}

export function countProblem({ count, list }) {
  const wanted = count.trim() === "" || list.trim() ? 1 : number(count);
  const fits = Number.isInteger(wanted) && wanted >= 1 && wanted <= MOST_SEEDS;
  return fits ? "" : `must be a whole number from 1 to ${MOST_SEEDS}`;
}

// Values by field. Rows without a field are not there yet; a field that is named twice is an error of its second row.
export function gridOf(rows) {
  const grid = {};
  for (const { path, text } of rows) {
    const [field, values] = sent(path.trim(), valuesOf(text));
    if (field && !(field in grid)) grid[field] = values;
  }
  return grid;
}

const isPart = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

// `rate.kind` takes kinds alone; among whole parts, a kind stands for its part.
function sent(path, values) {
  if (!path.endsWith(".kind") || !values.some(isPart)) return [path, values];
  return [path.slice(0, -".kind".length), values.map((value) => (isPart(value) ? value : { kind: value }))];
}

// Fields that a grid may vary: numbers, switches and choices of what is chosen now.
export function variable(cell, found = []) {
  for (const node of fieldsOf(cell.node, cell.shown?.() ?? cell.value())) {
    const child = cell.child(node);
    const path = child.path.join(".");
    if (["number", "switch", "choice"].includes(node.kind) && node.options?.length !== 1) found.push([path, node]);
    if (node.kind === "union" && node.options.length > 1) found.push([`${path}.kind`, node]);
    if (["union", "group"].includes(node.kind) && child.shown()) variable(child, found);
  }
  return found.filter(([path]) => !["version", "seed"].includes(path));
}

export class Grid {
  constructor(form) {
    this.form = form;
    this.draft = form.draft;
    this.list = byId("grid-rows");
    this.options = byId("grid-fields");
    this.places = [];
    for (const name of ["count", "list"]) {
      byId(`seeds-${name}`).addEventListener("input", (event) => {
        this.draft.seeds[name] = event.target.value;
        this.draft.tell();
      });
    }
    byId("grid-add").addEventListener("click", () => this.add());
  }

  add() {
    this.draft.grid.push({ path: "", text: "" });
    this.draw();
    this.places.at(-1).path.focus();
    this.draft.tell();
  }

  draw() {
    byId("seeds-count").value = this.draft.seeds.count;
    byId("seeds-list").value = this.draft.seeds.list;
    this.places = this.draft.grid.map((entry, index) => this.row(entry, index));
    this.list.replaceChildren(...this.places.map((row) => row.place));
  }

  row(entry, index) {
    const error = el("p", { class: "error", id: `grid-${index}-error`, hidden: true });
    const path = el("input", { type: "text", id: `grid-${index}-path`, list: "grid-fields", "aria-label": `Field ${index + 1} to vary`, "aria-describedby": error.id, placeholder: "optimizer.learning_rate", autocomplete: "off", spellcheck: "false", class: "mono" });
    const text = el("input", { type: "text", "aria-label": `Values of field ${index + 1}`, "aria-describedby": error.id, placeholder: "0.1, 0.2, 0.4", autocomplete: "off", spellcheck: "false" });
    path.value = entry.path;
    text.value = entry.text;
    text.placeholder = this.example(entry.path);
    path.addEventListener("input", () => {
      entry.path = path.value;
      text.placeholder = this.example(path.value);
      this.draft.tell();
    });
    text.addEventListener("input", () => {
      entry.text = text.value;
      this.draft.tell();
    });
    const drop = el("button", { type: "button", class: "quiet", "aria-label": `Remove field ${index + 1}` }, "Remove");
    drop.addEventListener("click", () => this.remove(index));
    const place = el("div", { class: "grid-row" }, path, text, drop, error);
    return { place, path, text };
  }

  remove(index) {
    this.draft.grid.splice(index, 1);
    this.draw();
    byId("grid-add").focus();
    this.draft.tell();
  }

  example(path) {
    const [, node] = variable(this.draft).find(([each]) => each === path) ?? [];
    if (node?.options) return node.options.slice(0, 3).map((option) => option.kind ?? option.value).join(", ");
    return node?.kind === "switch" ? "true, false" : "0.1, 0.2, 0.4";
  }

  showFields() {
    const known = variable(this.draft).map(([path, node]) => el("option", { value: path }, node.label));
    this.options.replaceChildren(...known);
  }

  // Errors under `seeds` and `grid`. Returns the others.
  showErrors(errors) {
    const seeds = errors.filter((error) => error.field === "seeds" || error.field.startsWith("seeds.")).map((e) => e.message);
    const own = countProblem(this.draft.seeds);
    showError(byId("seeds"), byId("seeds-count"), own ? [own] : seeds);
    const paths = this.draft.grid.map(({ path, text }) => sent(path.trim(), valuesOf(text))[0]);
    this.places.forEach(({ place, path }, index) => {
      const named = (field) => field === `grid.${paths[index]}` || field.startsWith(`grid.${paths[index]}.`);
      const twice = paths[index] && paths.indexOf(paths[index]) < index ? [`${paths[index]} is named above already`] : [];
      showError(place, path, [...twice, ...errors.filter((error) => paths[index] && named(error.field)).map((error) => error.message)]);
    });
    const told = (field) => field === "grid" || field.startsWith("seeds") ||
      paths.some((path) => path && (field === `grid.${path}` || field.startsWith(`grid.${path}.`)));
    showError(byId("values"), byId("grid-add"), errors.filter((error) => error.field === "grid").map((error) => error.message));
    showCount(byId("grid"));
    return errors.filter((error) => !told(error.field));
  }

  // What stands against a submission although the server, which never saw it, has no objection.
  problems() {
    const paths = this.draft.grid.map((entry) => entry.path.trim()).filter(Boolean);
    const twice = paths.find((path, index) => paths.indexOf(path) < index);
    const count = countProblem(this.draft.seeds);
    return [
      ...(twice ? [{ field: "", message: `${twice} is to be varied twice; leave one of them out` }] : []),
      ...(count ? [{ field: "", message: `How many seeds: ${count}` }] : []),
    ];
  }
}
