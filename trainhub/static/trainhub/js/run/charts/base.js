// What charts have in common. Each says which keys it draws and makes traces of the store.

import { SERVER } from "../palette.js";

const Plotly = window.Plotly;

const CONFIG = {
  displaylogo: false,
  responsive: true,
  doubleClick: "reset",
  modeBarButtons: [["toImage", "resetScale2d"]],
};

// Words on bars: left out where they would have to be smaller.
export const LEGIBLE = { mode: "hide", minsize: 10 };

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

export const nameOf = (worker) => (worker === SERVER ? "server" : `trainer ${worker}`);

export function stride(x, y, most) {
  if (x.length <= most) return { x, y };
  const step = (x.length - 1) / (most - 1);
  const pick = Array.from({ length: most }, (_, i) => Math.round(i * step));
  return { x: pick.map((i) => x[i]), y: pick.map((i) => y[i]) };
}
