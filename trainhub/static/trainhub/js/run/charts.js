// Charts. Each says which keys it draws and makes traces of the store; the painter decides when.

import { measured } from "../format.js";
import { SERVER, colour, inks } from "./palette.js";

const Plotly = window.Plotly;
const PAINT_MS = 300; // a chart is drawn at most this often
const DRAWN = 1000; // points of one line on the screen

const CONFIG = {
  displaylogo: false,
  responsive: true,
  doubleClick: "reset",
  modeBarButtons: [["toImage", "resetScale2d"]],
};

export class Painter {
  constructor() {
    this.charts = [];
    this.timer = null;
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const chart = this.charts.find((c) => c.plot === entry.target);
        if (chart) chart.visible = entry.isIntersecting;
      }
      this.wake();
    }, { rootMargin: "200px" });
    document.addEventListener("visibilitychange", () => this.wake());
    document.addEventListener("themechange", () => this.touchAll());
  }

  add(chart) {
    this.charts.push(chart);
    chart.dirty = true;
    chart.visible = false;
    chart.drawnAt = -Infinity;
    this.watcher.observe(chart.plot);
    return chart;
  }

  touch(keys) {
    for (const chart of this.charts) {
      if (!chart.dirty && chart.draws(keys)) chart.dirty = true;
    }
    this.wake();
  }

  touchAll() {
    for (const chart of this.charts) chart.dirty = true;
    this.wake();
  }

  wake() {
    if (this.timer === null) this.timer = requestAnimationFrame(() => this.paint());
  }

  // One chart a frame, the longest waiting first, so that scrolling and typing stay smooth.
  paint() {
    this.timer = null;
    if (document.hidden) return;
    const waiting = this.charts.filter((c) => c.dirty && c.visible).sort((a, b) => a.drawnAt - b.drawnAt);
    if (!waiting.length) return;
    const now = performance.now();
    const [next] = waiting;
    if (now - next.drawnAt >= PAINT_MS) {
      next.dirty = false;
      next.drawnAt = now;
      next.paint();
      this.wake();
    } else {
      this.timer = 1;
      setTimeout(() => {
        this.timer = null;
        this.wake();
      }, PAINT_MS - (now - next.drawnAt));
    }
  }
}

export class Chart {
  constructor(plot, store, focus) {
    this.plot = plot;
    this.store = store;
    this.focus = focus; // worker → whether it is shown
    this.empty = "Nothing measured yet";
    this.detail = null; // finer points of a zoomed stretch: {first, last, store}
  }

  draws(keys) {
    return this.keys().some((key) => keys.has(key));
  }

  source() {
    return this.detail?.store ?? this.store;
  }

  paint() {
    const traces = this.traces();
    const points = traces.reduce((sum, trace) => sum + trace.x.length, 0);
    if (points) delete this.plot.dataset.empty;
    else this.plot.dataset.empty = this.empty;
    this.plot.dataset.points = points;
    const fresh = !this.plot.classList.contains("js-plotly-plot");
    const layout = this.layout();
    layout.xaxis.visible = layout.yaxis.visible = points > 0;
    layout.datarevision = performance.now(); // arrays grow in place, which Plotly would not notice
    Plotly.react(this.plot, traces, layout, CONFIG);
    if (fresh) this.listen();
  }

  listen() {}
}

export function base(colours) {
  const axis = () => ({
    gridcolor: colours.line,
    linecolor: colours.line,
    zeroline: false,
    ticks: "",
    automargin: false,
    title: { font: { size: 12, color: colours.muted }, standoff: 8 },
    tickfont: { size: 11, color: colours.muted },
  });
  return {
    autosize: true,
    margin: { l: 54, r: 12, t: 8, b: 40 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colours.ink },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: colours.surface, bordercolor: colours.line, font: { color: colours.ink, size: 12 } },
    dragmode: "zoom",
    uirevision: "kept",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.muted, activecolor: colours.ink },
    xaxis: axis(),
    yaxis: axis(),
  };
}

const nameOf = (worker) => (worker === SERVER ? "server" : `trainer ${worker}`);

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

export function stride(x, y, most) {
  if (x.length <= most) return { x, y };
  const step = (x.length - 1) / (most - 1);
  const pick = Array.from({ length: most }, (_, i) => Math.round(i * step));
  return { x: pick.map((i) => x[i]), y: pick.map((i) => y[i]) };
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
