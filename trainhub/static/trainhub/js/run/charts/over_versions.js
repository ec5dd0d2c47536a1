// Series over versions: a line or dots for each trainer, the server and the evaluations in ink.

import { SERVER, colour, inks } from "../palette.js";
import { Chart, base, nameOf, stride } from "./base.js";

export const DRAWN = 1000; // points of one line on the screen

// The mean of as many neighbours as make that share of the line. Centred, so that it does not lag; gaps stay gaps.
function smooth(y, share) {
  const half = Math.max(2, Math.round((y.length * share) / 2));
  const sums = new Float64Array(y.length + 1);
  const counts = new Uint32Array(y.length + 1);
  y.forEach((value, i) => {
    const counted = Number.isFinite(value);
    sums[i + 1] = sums[i] + (counted ? value : 0);
    counts[i + 1] = counts[i] + (counted ? 1 : 0);
  });
  return y.map((value, i) => {
    if (!Number.isFinite(value)) return null;
    const reach = Math.min(half, i, y.length - 1 - i); // as far to the left as to the right
    const from = i - reach;
    const to = i + reach + 1;
    return (sums[to] - sums[from]) / (counts[to] - counts[from]);
  });
}

// Where a value was no number: a mark at the height of the last one that was, since a gap alone is easily overlooked.
function marks(x, y, worker, colours) {
  const at = { x: [], y: [], text: [] };
  let last = y.find((v) => Number.isFinite(v)) ?? 1;
  for (let i = 0; i < y.length; i += 1) {
    if (Number.isFinite(y[i])) last = y[i];
    else {
      at.x.push(x[i]);
      at.y.push(last);
      at.text.push(String(y[i]));
    }
  }
  if (!at.x.length) return [];
  return [{
    ...at,
    mode: "markers",
    marker: { symbol: "x", size: 8, color: colours.bad },
    hovertemplate: `%{text} · ${nameOf(worker)} · version %{x}<extra></extra>`,
  }];
}

// Series over versions: what each trainer measured, thin, and its smoothed course, thick; the server in ink.
export class OverVersions extends Chart {
  constructor(plot, store, focus, options) {
    super(plot, store, focus);
    Object.assign(this, { unit: "", smooth: true, neighbours: 1 / 40, faint: 0.28, evaluation: null, log: false, toZero: false, shape: "linear" }, options);
    this.empty = options.empty ?? this.empty;
    if (this.log) this.offerLog();
  }

  keys() {
    return [this.key, this.evaluation].filter(Boolean);
  }

  traces() {
    const colours = inks();
    const store = this.source();
    const workers = store.workers(this.key).filter((w) => this.focus(w));
    const drawn = workers.length > 8 ? DRAWN / 2 : DRAWN;
    const raw = [];
    const courses = [];
    const odd = [];
    for (const worker of workers) {
      const points = store.points(worker, this.key);
      const { x, y } = stride(points.x, points.y, 2 * drawn);
      const line = { color: worker === SERVER ? colours.accent : colour(worker), width: 1, shape: this.shape };
      const hovertemplate = `%{y:.4~g}${this.unit ? ` ${this.unit}` : ""} · ${worker === SERVER ? "run" : nameOf(worker)} · version %{x:,}<extra></extra>`;
      const gaps = y.map((v) => (Number.isFinite(v) ? v : null));
      if (this.smooth) {
        raw.push({ x, y: gaps, mode: "lines", line, opacity: this.faint, hoverinfo: "skip" });
        const course = smooth(y, this.neighbours);
        courses.push({ x, y: course, mode: "lines", line: { ...line, width: 2, shape: "linear" }, hovertemplate });
      } else {
        courses.push({ x, y: gaps, mode: "lines", line: { ...line, width: 1.75 }, hovertemplate });
      }
      odd.push(...marks(x, y, worker, colours));
    }
    return [...raw, ...courses, ...this.evaluated(colours), ...odd];
  }

  evaluated(colours) {
    if (!this.evaluation) return [];
    const { x, y } = this.source().points(SERVER, this.evaluation);
    if (!x.length) return [];
    const shown = y.map((v) => (Number.isFinite(v) ? v : null));
    return [
      { x, y: shown, mode: "lines", line: { color: colours.surface, width: 5 }, hoverinfo: "skip" },
      {
        x,
        y: shown,
        mode: x.length > 60 ? "lines" : "lines+markers",
        line: { color: colours.ink, width: 2 },
        marker: { color: colours.ink, size: 6, line: { color: colours.surface, width: 1.5 } },
        hovertemplate: `%{y:.4~g}${this.unit ? ` ${this.unit}` : ""} · evaluation · version %{x:,}<extra></extra>`,
      },
      ...marks(x, y, SERVER, colours),
    ];
  }

  layout() {
    const colours = inks();
    const layout = base(colours);
    layout.xaxis.title.text = "version";
    layout.xaxis.tickformat = ",~d";
    layout.xaxis.rangemode = "nonnegative";
    if (this.reach() <= 6) layout.xaxis.dtick = 1; // there are no halves of versions
    layout.yaxis.tickformat = "~g";
    if (this.logarithmic()) this.byDecades(layout.yaxis);
    else if (this.toZero) layout.yaxis.rangemode = "tozero";
    else this.roundAConstant(layout.yaxis);
    layout.shapes = this.store.restarts.filter((v) => v > 0).map((version) => ({
      type: "line", xref: "x", yref: "paper", x0: version, x1: version, y0: 0, y1: 1,
      line: { color: colours.muted, width: 1, dash: "dot" },
    }));
    return layout;
  }

  // A value that never changes would be drawn on an axis of its rounding errors.
  roundAConstant(axis) {
    const { least, greatest } = this.span();
    if (greatest > 0 && greatest - least < 1e-6 * greatest) {
      axis.autorangeoptions = { include: [0.9 * least, 1.1 * greatest] };
    }
  }

  // The last version that anything was measured at.
  reach() {
    const lines = this.keys().flatMap((key) => this.store.workers(key).map((worker) => this.store.points(worker, key).x));
    return Math.max(0, ...lines.map((x) => x.at(-1) ?? 0));
  }

  // Greatest and least of what is drawn, above zero.
  span() {
    let least = Infinity;
    let greatest = 0;
    for (const key of this.keys()) {
      for (const worker of this.store.workers(key)) {
        for (const v of this.store.points(worker, key).y) {
          if (v > 0 && v < least) least = v;
          if (v > greatest && Number.isFinite(v)) greatest = v;
        }
      }
    }
    return { least, greatest };
  }

  // As chosen; else when the values span more than a factor of twenty.
  logarithmic() {
    if (!this.log) return false;
    const { least, greatest } = this.span();
    const log = this.chosen ?? greatest / least > 20;
    this.toggle.setAttribute("aria-pressed", String(log));
    return log && greatest > 0;
  }

  // At most five decades: a rate that fades to nothing would leave no room for the rest.
  byDecades(axis) {
    const { least, greatest } = this.span();
    const floor = Math.max(least, greatest / 1e5);
    axis.type = "log";
    axis.autorangeoptions = { clipmin: floor / 1.5 };
    axis.dtick = Math.log10(greatest / floor) > 2 ? 1 : "D2";
    if (axis.dtick === 1) axis.minor = { dtick: "D1", showgrid: false };
  }

  offerLog() {
    this.toggle = document.createElement("button");
    this.toggle.type = "button";
    this.toggle.className = "quiet toggle";
    this.toggle.textContent = "log scale";
    this.toggle.addEventListener("click", () => {
      this.chosen = this.toggle.getAttribute("aria-pressed") !== "true";
      this.dirty = true;
      this.wake?.();
    });
    this.plot.parentElement.querySelector("figcaption").append(this.toggle);
  }

  // A zoomed stretch is asked for anew, with as many points as the whole had.
  listen() {
    this.plot.on("plotly_relayout", (change) => {
      const [first, last] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (first !== undefined && this.zoom) {
        this.zoom(this, Math.floor(first), Math.ceil(last));
      } else if (change["xaxis.autorange"]) {
        this.detail = null;
        this.dirty = true;
        this.wake?.();
      }
    });
  }
}
