// Charts of trainers that step by themselves, and of any run against time.

import { OverVersions } from "./charts/over_versions.js";
import { colour } from "./palette.js";

const DRAWN = 400; // pushes of one trainer on the screen

// The distance from the server's weights: what it had grown to when they came, and what was left when they were merged.
export class Sawtooth extends OverVersions {
  keys() {
    return [this.key, this.left];
  }

  traces() {
    const store = this.source();
    return store.workers(this.key).filter((w) => this.focus(w)).map((worker) => {
      const grown = store.points(worker, this.key);
      const left = store.points(worker, this.left);
      const after = new Map(left.x.map((x, i) => [x, left.y[i]]));
      const from = Math.max(0, grown.x.length - DRAWN);
      const x = [];
      const y = [];
      const text = [];
      for (let i = from; i < grown.x.length; i += 1) {
        x.push(grown.x[i]);
        y.push(grown.y[i]);
        text.push("when the weights came");
        if (!after.has(grown.x[i])) continue;
        x.push(grown.x[i]);
        y.push(after.get(grown.x[i]));
        text.push("after the merge");
      }
      return {
        x,
        y,
        text,
        mode: "lines",
        line: { color: colour(worker), width: 1.5 },
        hovertemplate: `%{y:.4~g} %{text} · trainer ${worker} · version %{x:,}<extra></extra>`,
      };
    });
  }
}

// What OverVersions draws, against seconds: versions are told the time by the run's own clock.
export class OverTime extends OverVersions {
  keys() {
    return [...super.keys(), this.clock];
  }

  traces() {
    const clock = this.source().points(-1, this.clock);
    if (!clock.x.length) return [];
    return super.traces().map((trace) => ({
      ...trace,
      x: trace.x.map((version) => timeOf(version, clock)),
      hovertemplate: trace.hovertemplate?.replace("version %{x:,}", "%{x:,.1f} s"),
    }));
  }

  layout() {
    const layout = super.layout();
    layout.xaxis.title.text = this.timeTitle;
    layout.shapes = [];
    return layout;
  }

  listen() {} // finer points are asked for by version
}

// Between two readings of the clock, versions are taken to come evenly.
export function timeOf(version, { x, y }) {
  let high = x.findIndex((v) => v >= version);
  if (high < 0) high = x.length - 1;
  const [x0, y0] = high > 0 ? [x[high - 1], y[high - 1]] : [0, 0];
  if (x[high] === x0) return y[high];
  return Math.min(y[high], y0 + ((y[high] - y0) * (version - x0)) / (x[high] - x0));
}
