// One chart of many runs: a line a run, over versions or over a clock of theirs.

import { Chart, base, stride } from "../run/charts/base.js";
import { timeOf } from "../run/own.js";
import { inks } from "../run/palette.js";
import { colour, dash } from "./marks.js";

const DRAWN = 1000; // points of one line on the screen
const TITLES = { version: "version", wall: "seconds of training", virtual: "virtual seconds of training" };

export class Overlay extends Chart {
  constructor(plot, runs, view) {
    super(plot, null, null);
    this.runs = runs;
    this.view = view; // {over, hidden}
    this.key = plot.dataset.key;
    this.ofServer = plot.dataset.worker === "-1";
    this.log = "log" in plot.dataset;
    this.empty = "Nothing was measured yet";
  }

  keys() {
    return [this.key];
  }

  traces() {
    return this.runs.filter((run) => !this.view.hidden.has(run.mark)).map((run) => this.trace(run)).filter(Boolean);
  }

  trace(run) {
    const line = this.ofServer ? run.store.points(-1, this.key) : run.courses[this.key] ?? { x: [], y: [] };
    if (!line.x.length) return null;
    const x = clocked(line.x, run, this.view.over);
    if (!x) return null;
    const unit = this.view.over === "version" ? "version %{x:,.0f}" : "%{x:,.1f} s";
    return {
      ...stride(x, line.y, DRAWN),
      name: run.name,
      mode: this.ofServer && x.length < 40 ? "lines+markers" : "lines",
      line: { color: colour(run.mark), dash: dash(run.mark), width: 2 },
      marker: { size: 4 },
      hovertemplate: `<b>%{y:.4~g}</b> ${escaped(run.name)}<br>${unit}<extra></extra>`,
    };
  }

  // Powers of ten between the least and the greatest value drawn.
  decades() {
    const values = this.traces().flatMap((trace) => trace.y).filter((value) => value > 0);
    if (!values.length) return 0;
    const [least, greatest] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, 0]);
    return Math.log10(greatest / least);
  }

  layout() {
    const colours = inks();
    const layout = base(colours);
    layout.uirevision = this.view.over;
    layout.xaxis.title.text = TITLES[this.view.over];
    layout.xaxis.tickformat = "~s";
    const decades = this.log ? this.decades() : 0;
    if (decades > 1) {
      // As the charts of a single run have it: logarithmic where values span much, and ticks that do not crowd.
      Object.assign(layout.yaxis, { type: "log", tickformat: "~g", dtick: decades > 2 ? 1 : "D2" });
    } else if ("zero" in this.plot.dataset) layout.yaxis.rangemode = "tozero";
    return layout;
  }
}

// Plotly reads some tags in texts.
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

// null: this run has no such clock, or none yet.
function clocked(versions, run, over) {
  if (over === "version") return versions;
  if (run.simulated !== (over === "virtual")) return null;
  const clock = run.store.points(-1, "elapsed_seconds");
  return clock.x.length ? versions.map((version) => timeOf(version, clock)) : null;
}

