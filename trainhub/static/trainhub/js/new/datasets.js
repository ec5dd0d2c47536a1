// The data sets of the chosen project, for problems that train on one.

import { el } from "../run/dom.js";
import { bytes, whole } from "../format.js";
import { row } from "./fields.js";

export class Datasets {
  constructor() {
    this.found = [];
    this.loaded = false;
    this.failed = "";
    this.listeners = new Set();
  }

  async load(project) {
    try {
      this.found = await all(`/api/v1/datasets?limit=100&project=${encodeURIComponent(project ?? "")}`);
      this.failed = "";
    } catch {
      this.failed = "The data sets can't be read now; type a name.";
    }
    this.loaded = true;
    // Fields that are no longer on the page are forgotten on the way.
    for (const listener of [...this.listeners]) if (!listener()) this.listeners.delete(listener);
  }
}

async function all(address) {
  const found = [];
  for (let next = address; next; ) {
    const response = await fetch(next, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`${response.status}`);
    const page = await response.json();
    found.push(...page.items);
    next = page.next ? `${address}&cursor=${encodeURIComponent(page.next)}` : null;
  }
  return found;
}

// `28 × 28 pixels, 1 channel, 10 classes, 1,797 examples, 3.1 MiB`, of what is known about it.
export function told(dataset) {
  const { shape, classes, features, target } = dataset.info ?? {};
  return [
    pixels(shape),
    counted(features, "features"),
    target?.name ? `target ${target.name}` : "",
    counted(classes ?? target?.classes, "classes"),
    `${whole(dataset.examples)} examples`,
    bytes(dataset.size_bytes),
  ].filter(Boolean).join(", ");
}

function pixels(shape) {
  if (!Array.isArray(shape) || shape.length !== 3) return "";
  const [channels, height, width] = shape;
  return `${width} × ${height} pixels, ${channels} ${channels === 1 ? "channel" : "channels"}`;
}

function counted(listed, words) {
  const number = Array.isArray(listed) ? listed.length : listed;
  return Number.isFinite(number) ? `${whole(number)} ${words}` : "";
}

export function datasetField(form, cell) {
  const { datasets } = form;
  const words = el("p", { class: "help" });
  const upload = el("a", { href: "/datasets/", target: "_blank", rel: "noopener" }, "Upload a data set");
  return row(form, cell, (attributes) => {
    const select = el("select", attributes);
    const draw = () => {
      const fitting = datasets.found.filter((dataset) => dataset.kind === cell.node.of);
      const chosen = cell.value();
      const missing = chosen && !fitting.some((dataset) => dataset.name === chosen);
      select.replaceChildren(
        el("option", { value: "" }, datasets.loaded && !fitting.length ? "none uploaded yet" : "choose…"),
        ...fitting.map((dataset) => el("option", { value: dataset.name }, dataset.name)),
        ...(missing ? [el("option", { value: chosen }, datasets.loaded ? `${chosen} (not in this project)` : chosen)] : []),
      );
      select.value = chosen ?? "";
      say();
      return select.isConnected;
    };
    const say = () => {
      const dataset = datasets.found.find((each) => each.name === cell.value() && each.kind === cell.node.of);
      words.replaceChildren(datasets.failed || (dataset ? told(dataset) : ""), " ", upload);
    };
    draw();
    datasets.listeners.add(draw);
    select.addEventListener("change", () => {
      cell.write(select.value || undefined);
      say();
    });
    return { place: el("div", {}, select, words), focus: select };
  });
}
