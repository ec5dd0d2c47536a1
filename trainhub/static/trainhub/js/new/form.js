// The form: sections of fields, what is wrong with each, and what differs from its default.

import { byId, el, say } from "../run/dom.js";
import { showError } from "./fields.js";
import { copy } from "./state.js";
import { describe, field } from "./unions.js";

const under = (path, other) => other === path || other.startsWith(`${path}.`);

export class Form {
  constructor(sections, draft, datasets) {
    this.sections = sections;
    this.draft = draft;
    this.datasets = datasets;
    this.rows = new Map(); // dotted path → its row
    this.memory = new Map(); // what was typed into members that are not chosen now
    this.place = byId("fields");
    this.folds = [];
  }

  // `unfolded`: slugs of sections whose folded parts are to be seen at once.
  draw(unfolded = []) {
    const open = new Set([...this.place.querySelectorAll("details[open]")].map((each) => each.id));
    for (const slug of unfolded) open.add(`more-${slug}`);
    this.rows.clear();
    this.folds = [];
    this.place.replaceChildren(...this.sections.map((section) => this.section(section, open)));
    this.marked();
  }

  section({ slug, title, help, fields, more, more_title: folded }, open) {
    const heading = el("header", {}, el("h2", { id: `h-${slug}` }, title), el("span", { class: "count", hidden: true }), el("p", { class: "muted" }, help));
    const inner = el("div", { class: "fields" }, ...this.cells(fields).map((cell) => field(this, cell)));
    const place = el("section", { class: "part", id: `part-${slug}`, "aria-labelledby": `h-${slug}` }, heading, el("div", { class: "part-body" }, fields.length ? inner : null, more.length ? this.fold(slug, more, folded, open) : null));
    return place;
  }

  fold(slug, more, title, open) {
    const cells = this.cells(more);
    const words = el("span", { class: "summary" });
    const details = el("details", { id: `more-${slug}`, class: "more" }, el("summary", {}, el("span", { class: "fold-title" }, title), el("span", { class: "count", hidden: true }), words), el("div", { class: "fields" }, ...cells.map((cell) => field(this, cell))));
    details.open = open.has(details.id);
    this.folds.push({ words, cells });
    return details;
  }

  cells(nodes) {
    return nodes.map((node) => this.draft.child(node));
  }

  redraw(cell) {
    const before = this.rows.get(cell.path.join("."))?.place;
    this.forget(cell, { itself: true });
    before?.replaceWith(field(this, cell));
    this.marked();
  }

  // Rows inside of a part that is drawn anew.
  forget(cell, { itself = false } = {}) {
    const path = cell.path.join(".");
    for (const key of [...this.rows.keys()]) {
      if (under(path, key) && (itself || key !== path)) this.rows.delete(key);
    }
  }

  keep(cell) {
    const value = cell.shown();
    if (value) this.memory.set(`${cell.path.join(".")} ${value.kind ?? ""}`, copy(value));
  }

  kept(cell, kind) {
    return copy(this.memory.get(`${cell.path.join(".")} ${kind}`));
  }

  // Marks of what differs from its default, and the lines that say what is folded.
  marked() {
    for (const { place, cell, reset } of this.rows.values()) {
      const changed = cell.changed();
      place.classList.toggle("changed", changed);
      if (reset.hidden === changed) reset.hidden = !changed;
    }
    for (const { words, cells } of this.folds) say(words, cells.map(describe).join(" · "));
  }

  // Errors beside their fields. Returns those that have no field in sight, with the field to go to where there is one.
  showErrors(errors) {
    const beside = new Map();
    const elsewhere = [];
    for (const error of errors) {
      const path = this.rowOf(error.field);
      if (path) beside.set(path, [...(beside.get(path) ?? []), error]);
      else elsewhere.push({ ...error, go: null });
    }
    for (const [path, { place, focus }] of this.rows) {
      const found = beside.get(path) ?? [];
      showError(place, focus, found.map((error) => sentence(error, path)));
      if (found.length && !inSight(place)) elsewhere.push(...found.map((error) => ({ ...error, go: path })));
    }
    this.count();
    return elsewhere;
  }

  // `gate.kind` is chosen in the row `gate`; what has no row of its own is said at the part it belongs to.
  rowOf(name) {
    for (let path = name; path; path = path.includes(".") ? path.slice(0, path.lastIndexOf(".")) : "") {
      if (this.rows.has(path)) return path;
    }
    return "";
  }

  count() {
    for (const part of this.place.querySelectorAll(".part, details.more")) showCount(part);
  }

  go(path) {
    const row = this.rows.get(path);
    if (!row) return;
    for (let fold = row.place.closest("details:not([open])"); fold; fold = fold.parentElement.closest("details:not([open])")) fold.open = true;
    row.focus.focus();
    row.place.scrollIntoView({ block: "center" });
  }
}

// How many errors a part holds, in its heading.
export function showCount(part) {
  const wrong = part.querySelectorAll(".error:not([hidden])").length;
  const count = part.querySelector(part.matches("details") ? "summary .count" : ":scope > header .count");
  count.hidden = wrong === 0;
  say(count, wrong === 1 ? "1 error" : `${wrong} errors`);
}

const inSight = (place) => !place.closest("details:not([open])");

function sentence({ field: name, message }, path) {
  const rest = name === path ? "" : name.slice(path.length + 1);
  if (/^\d+$/.test(rest)) return `value ${Number(rest) + 1} ${message}`;
  const lead = rest && rest !== "kind" ? `${rest} ` : "";
  return `${lead}${message}`;
}

