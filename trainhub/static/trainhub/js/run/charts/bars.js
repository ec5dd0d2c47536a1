// Bars of what was counted: how stale gradients were, and where the time went.

import { measured } from "../../format.js";
import { colour, inks } from "../palette.js";
import { Chart, LEGIBLE, base, nameOf } from "./base.js";

// How often each staleness occurred, in per cent of a trainer's gradients.
export class Distribution extends Chart {
  constructor(plot, store, focus, totals, key) {
    super(plot, store, focus);
    this.totals = totals;
    this.key = key;
  }

  keys() {
    return [this.key];
  }

  traces() {
    const rows = this.totals.of(this.key).filter((row) => row.worker >= 0 && this.focus(row.worker));
    const greatest = Math.max(0, ...rows.flatMap((row) => [...row.seen.keys()]));
    const width = Math.max(1, Math.ceil((greatest + 1) / 40));
    const bars = rows.length <= 6;
    return rows.map((row) => {
      const shares = new Array(Math.floor(greatest / width) + 1).fill(0);
      for (const [value, count] of row.seen) shares[Math.floor(value / width)] += (100 * count) / row.count;
      const x = shares.map((_, i) => i * width + (width - 1) / 2);
      const label = width === 1 ? "%{x} versions" : `about %{x} versions`;
      const hovertemplate = `%{y:.1f} % · ${nameOf(row.worker)} · ${label}<extra></extra>`;
      const ink = colour(row.worker);
      return bars
        ? { type: "bar", x, y: shares, marker: { color: ink }, hovertemplate }
        : { x, y: shares, mode: "lines", line: { color: ink, width: 1.5, shape: "hvh" }, hovertemplate };
    });
  }

  layout() {
    const layout = base(inks());
    layout.bargap = 0.25;
    layout.bargroupgap = 0.05;
    layout.xaxis.title.text = "staleness, versions";
    layout.xaxis.showgrid = false;
    layout.yaxis.ticksuffix = " %";
    layout.yaxis.rangemode = "tozero";
    return layout;
  }
}

// Where each trainer's time went.
export class TimeShares extends Chart {
  constructor(plot, store, focus, totals, parts) {
    super(plot, store, focus);
    this.totals = totals;
    this.parts = parts; // [key, word, colour name]
  }

  keys() {
    return this.parts.map(([key]) => key);
  }

  traces() {
    const colours = inks();
    const sums = new Map();
    for (const [key] of this.parts) {
      for (const row of this.totals.of(key)) sums.set(row.worker, (sums.get(row.worker) ?? 0) + row.total);
    }
    const workers = [...sums.keys()].filter((w) => this.focus(w)).sort((a, b) => a - b);
    return this.parts.map(([key, word, ink]) => {
      const rows = new Map(this.totals.of(key).map((row) => [row.worker, row]));
      const shares = workers.map((w) => (100 * (rows.get(w)?.total ?? 0)) / sums.get(w));
      return {
        type: "bar",
        orientation: "h",
        y: workers.map(nameOf),
        x: shares,
        text: shares.map((share) => (share >= 9 && workers.length <= 8 ? `${word} ${share.toFixed(0)} %` : "")),
        textposition: "inside",
        insidetextanchor: "middle",
        textangle: 0,
        textfont: { size: 11, color: ink === "wait" ? colours.ink : colours.surface },
        marker: { color: colours[ink] },
        customdata: workers.map((w) => measured((1000 * (rows.get(w)?.total ?? 0)) / (rows.get(w)?.count || 1))),
        hovertemplate: `${word} %{x:.1f} % · %{customdata} ms a gradient · %{y}<extra></extra>`,
      };
    });
  }

  layout() {
    const layout = base(inks());
    layout.uniformtext = LEGIBLE;
    layout.barmode = "stack";
    layout.bargap = 0.35;
    layout.margin = { l: 74, r: 16, t: 8, b: 40 };
    layout.xaxis.ticksuffix = " %";
    layout.xaxis.range = [0, 100];
    layout.xaxis.title.text = "share of time";
    layout.yaxis.autorange = "reversed";
    layout.yaxis.gridcolor = "rgba(0,0,0,0)";
    layout.yaxis.fixedrange = true;
    layout.xaxis.fixedrange = true;
    return layout;
  }
}
