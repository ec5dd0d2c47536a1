// The draft: one plain spec that holds what was chosen, and cells that read and write its parts by the form's tree.

export const equal = (a, b) => {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => equal(a[key], b[key]));
};

export const copy = (value) => (value === undefined ? undefined : structuredClone(value));

// The fields of a value: those of a group, or of the member that a union's value names.
export function fieldsOf(node, value) {
  if (node.kind === "group") return node.fields;
  return memberOf(node, value)?.fields ?? [];
}

export function memberOf(node, value) {
  return node.options.find((option) => option.kind === value?.kind);
}

// One place in the spec. `value()` is undefined where its default stands.
export class Cell {
  constructor(node, parent, key) {
    this.node = node;
    this.parent = parent;
    this.key = key;
  }

  get path() {
    return [...this.parent.path, this.key];
  }

  value() {
    return this.parent.value()?.[this.key];
  }

  // What holds as long as nothing is chosen: the parent's default may say more than the field's own.
  fallback() {
    const whole = this.parent.value() === undefined ? this.parent.fallback() : undefined;
    return whole?.[this.key] ?? this.node.default;
  }

  shown() {
    const value = this.value();
    return value === undefined ? this.fallback() : value;
  }

  changed() {
    const value = this.value();
    return value !== undefined && "default" in this.node && !equal(prune(this.node, value), undefined);
  }

  child(node) {
    return new Cell(node, this, node.name);
  }

  at(index) {
    return new Cell({ ...this.node.of, required: true }, this, index);
  }

  write(value) {
    const before = this.parent.value() ?? copy(this.parent.fallback()) ?? {};
    const whole = Array.isArray(before) ? [...before] : { ...before };
    if (value === undefined) delete whole[this.key];
    else whole[this.key] = value;
    this.parent.write(whole);
  }
}

// The whole spec, and what else belongs to a draft. Whoever wants to hear of changes subscribes.
export class Draft {
  constructor(nodes, begun) {
    this.node = { kind: "group", fields: nodes };
    this.path = [];
    this.listeners = [];
    this.load(begun);
  }

  load({ spec = {}, seeds = {}, grid = [], yaml = null, key = null, project = null, from = "" }) {
    this.spec = prune(this.node, spec) ?? {};
    this.seeds = { count: "", list: "", ...seeds };
    this.grid = copy(grid);
    this.yaml = yaml; // text that was written by hand and is not in the form yet; null: there is none
    this.key = key;
    this.project = project;
    this.from = from;
  }

  saved() {
    const { spec, seeds, grid, yaml, key, project, from } = this;
    return copy({ spec, seeds, grid, yaml, key, project, from });
  }

  value() {
    return this.spec;
  }

  fallback() {
    return undefined;
  }

  child(node) {
    return new Cell(node, this, node.name);
  }

  write(spec) {
    this.spec = spec;
    this.tell();
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }

  tell() {
    for (const listener of this.listeners) listener();
  }
}

// A value without what its defaults say anyway; undefined where nothing is left to say.
export function prune(node, value) {
  if (value === undefined || !["group", "union", "items"].includes(node.kind)) return same(node, value);
  if (value === null || typeof value !== "object") return same(node, value);
  if (node.kind === "items") return Array.isArray(value) ? same(node, value.map((item) => prune(listed(node), item))) : value;
  const kept = pruneFields(fieldsOf(node, value), value);
  if (node.default && value.kind === node.default.kind && equal(kept, pruneFields(fieldsOf(node, value), node.default))) {
    return undefined;
  }
  return kept;
}

const listed = (node) => ({ ...node.of, required: true });

function same(node, value) {
  return "default" in node && equal(value, node.default) ? undefined : value;
}

function pruneFields(fields, value) {
  if (Array.isArray(value)) return value;
  const known = new Map(fields.map((field) => [field.name, field]));
  const pairs = Object.entries(value).map(([name, each]) => [name, known.has(name) ? prune(known.get(name), each) : each]);
  return Object.fromEntries(pairs.filter(([, each]) => each !== undefined));
}
