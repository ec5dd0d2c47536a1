// Series over versions with something besides: the server's aggregate, a trainer's context, a value it tends to.

import { SERVER, colour, inks } from "../palette.js";
import { nameOf, stride } from "./base.js";
import { DRAWN, OverVersions } from "./over_versions.js";

// Batch-norm statistics: the server's aggregate as a line, each trainer's batches as dots around it.
export class AroundServer extends OverVersions {
  traces() {
    const store = this.source();
    const dots = store.workers(this.key).filter((w) => w !== SERVER && this.focus(w)).map((worker) => {
      const points = store.points(worker, this.key);
      const { x, y } = stride(points.x, points.y, 300);
      return {
        x,
        y,
        mode: "markers",
        marker: { color: colour(worker), size: 4, opacity: 0.6 },
        hovertemplate: `%{y:.4~g} · ${nameOf(worker)} · version %{x:,}<extra></extra>`,
      };
    });
    const { x, y } = store.points(SERVER, this.key);
    if (!x.length) return dots;
    const colours = inks();
    return [
      ...dots,
      { x, y, mode: "lines", line: { color: colours.surface, width: 5 }, hoverinfo: "skip" },
      {
        x,
        y,
        mode: "lines",
        line: { color: colours.ink, width: 2 },
        hovertemplate: "%{y:.4~g} · server · version %{x:,}<extra></extra>",
      },
    ];
  }
}

// Staleness and what a trainer's window made of it: where there is a context, what was met as dots and it as a line.
export class WithContext extends OverVersions {
  keys() {
    return [this.key, this.context, this.greatest];
  }

  traces() {
    const store = this.source();
    const workers = store.workers(this.context).filter((w) => this.focus(w));
    if (!this.store.workers(this.context).length) return [...super.traces(), ...this.worst(store)];
    const surface = inks().surface;
    const met = store.workers(this.key).filter((w) => this.focus(w)).map((worker) => ({
      ...stride(...columns(store.points(worker, this.key)), 500),
      mode: "markers",
      marker: { color: colour(worker), size: 4, opacity: 0.35 },
      hovertemplate: `%{y} ${this.unit} · met by ${nameOf(worker)} · version %{x:,}<extra></extra>`,
    }));
    const forecast = workers.map((worker) => stride(...columns(store.points(worker, this.context)), DRAWN));
    return [
      ...met,
      ...forecast.map((line) => ({ ...line, mode: "lines", line: { color: surface, width: 5 }, hoverinfo: "skip" })),
      ...forecast.map((line, i) => ({
        ...line,
        mode: "lines",
        line: { color: colour(workers[i]), width: 2 },
        hovertemplate: `%{y:.4~g} ${this.unit} · context of ${nameOf(workers[i])} · version %{x:,}<extra></extra>`,
      })),
      ...this.worst(store),
    ];
  }

  // Where there are too many trainers to show each: the greatest staleness that any of them met.
  worst(store) {
    const points = store.points(SERVER, this.greatest);
    if (!points.x.length) return [];
    return [{
      ...stride(points.x, points.y, DRAWN),
      mode: "lines",
      line: { color: inks().accent, width: 1.5, dash: "dot" },
      hovertemplate: `%{y} ${this.unit} · greatest of all trainers · version %{x:,}<extra></extra>`,
    }];
  }
}

const columns = ({ x, y }) => [x, y];

// A course of the whole run, and the value it tends to, dashed.
export class TowardsValue extends OverVersions {
  layout() {
    const layout = super.layout();
    const value = this.towards?.();
    if (value) {
      const line = { color: inks().ink, width: 1.5, dash: "dash" };
      layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line });
      layout.yaxis.autorangeoptions = { include: [0.9 * value, 1.1 * value] }; // shapes alone do not stretch an axis
    }
    return layout;
  }
}
