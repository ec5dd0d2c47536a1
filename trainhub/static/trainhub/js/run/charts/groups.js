// Machine groups: where the time of each device goes in a step, and what it sends.

import { byteUnit, bytes, measured } from "../../format.js";
import { colour, inks, swatch } from "../palette.js";
import { Chart, LEGIBLE, base } from "./base.js";

export const GROUP = /^group\/(\d+)\/(seconds|bytes)\/(.+)$/;
const WAITS = "push";
const NAMED = { [WAITS]: "wait", gradient_exchange: "transfer" }; // drawn as everywhere on the page
const RECENT = 50; // points that a bar is the mean of

// In the order of a step.
export const PHASES = [
  ["data", "batch"],
  ["conv_forward", "conv forward"],
  ["all_gather", "all-gather"],
  ["slice_forward", "slice forward"],
  ["softmax_exchange", "softmax exchange"],
  ["slice_backward", "slice backward"],
  ["reduce_scatter", "reduce-scatter"],
  ["conv_backward", "conv backward"],
  ["gradient_exchange", "gradients"],
  [WAITS, "push and wait"],
];
export const TRAFFIC = [
  ["last_layer", "last layer"],
  ["convolutions", "convolutions"],
  ["batch_norm", "batch norm"],
  ["metrics", "metrics"],
];

const ink = (name, index) => (NAMED[name] ? inks()[NAMED[name]] : colour(index));

// A stacked bar for each device of each group that is shown.
class OfDevices extends Chart {
  constructor(plot, store, focus, kind, parts) {
    super(plot, store, focus);
    this.kind = kind;
    this.parts = parts; // [name, words]
  }

  draws(keys) {
    return [...keys].some((key) => key.startsWith("group/"));
  }

  keys() {
    return this.store.keys().filter((key) => GROUP.exec(key)?.[2] === this.kind);
  }

  devices() {
    const found = new Map();
    for (const key of this.keys()) {
      const rank = Number(GROUP.exec(key)[1]);
      for (const worker of this.store.workers(key)) if (this.focus(worker)) found.set(`${worker}.${rank}`, { worker, rank });
    }
    return [...found.values()].sort((a, b) => a.worker - b.worker || a.rank - b.rank);
  }

  mean({ worker, rank }, name) {
    return this.store.recent(worker, `group/${rank}/${this.kind}/${name}`, RECENT) ?? 0;
  }

  traces() {
    const devices = this.devices();
    const totals = devices.map((device) => this.parts.reduce((sum, [name]) => sum + this.mean(device, name), 0));
    this.measure(Math.max(0, ...totals));
    return this.parts.map(([name, words], index) => {
      const values = devices.map((device) => this.mean(device, name));
      return {
        type: "bar",
        orientation: "h",
        y: devices.map(({ worker, rank }) => `group ${worker} · ${rank}`),
        x: values.map((value) => value * this.scale),
        text: values.map((value, i) => (value >= 0.14 * totals[i] && devices.length <= 8 ? words : "")),
        textposition: "inside",
        insidetextanchor: "middle",
        textangle: 0,
        textfont: { size: 11, color: name === WAITS ? inks().ink : inks().surface },
        marker: { color: ink(name, index) },
        customdata: values.map((value, i) => [this.told(value), totals[i] ? (100 * value) / totals[i] : 0]),
        hovertemplate: `${words} %{customdata[0]} · %{customdata[1]:.1f} % · %{y}<extra></extra>`,
      };
    });
  }

  // Choose a unit for bars as long as this.
  measure() {}

  layout() {
    const layout = base(inks());
    layout.uniformtext = LEGIBLE;
    layout.barmode = "stack";
    layout.bargap = 0.3;
    layout.margin = { l: 84, r: 16, t: 8, b: 40 };
    layout.xaxis.title.text = this.title;
    layout.xaxis.rangemode = "tozero";
    layout.yaxis.autorange = "reversed";
    layout.yaxis.gridcolor = "rgba(0,0,0,0)";
    layout.xaxis.fixedrange = layout.yaxis.fixedrange = true;
    return layout;
  }
}

export class PhaseBars extends OfDevices {
  constructor(plot, store, focus) {
    super(plot, store, focus, "seconds", PHASES);
    this.scale = 1000;
    this.title = "ms of a step, mean of the last steps";
  }

  told(value) {
    return `${measured(1000 * value, 3)} ms`;
  }
}

export class TrafficBars extends OfDevices {
  constructor(plot, store, focus) {
    super(plot, store, focus, "bytes", TRAFFIC);
  }

  measure(longest) {
    const [unit, size] = byteUnit(longest);
    this.scale = 1 / size;
    this.title = `${unit} that a device sends in a step`;
  }

  told(value) {
    return bytes(value);
  }
}

// The words of the colours, beside a chart's title.
export function legend(place, parts) {
  for (const [index, [name, words]] of parts.entries()) {
    const mark = document.createElement("i");
    mark.style.setProperty("--swatch", NAMED[name] ? `var(--${NAMED[name]})` : swatch(index));
    const item = document.createElement("span");
    item.className = "nowrap";
    item.append(mark, words);
    place.append(item, " ");
  }
}
