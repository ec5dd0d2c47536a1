// How runs are told apart: a colour and a pattern of dashes each, so that neither alone has to do it.

const COLOURS = 12;
const DASHES = ["solid", "dash", "dot", "dashdot"];
const STROKES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "8 3 2 3" };

export function colour(mark) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--run-${mark % COLOURS}`).trim();
}

// Neighbours differ in both; all twelve differ in the pair.
export function dash(mark) {
  return DASHES[mark % DASHES.length];
}

// A piece of the run's line. It follows the theme by itself.
export function sample(mark) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of Object.entries({ width: 26, height: 10, viewBox: "0 0 26 10", "aria-hidden": "true" })) svg.setAttribute(name, value);
  for (const [name, value] of Object.entries({ x1: 1, y1: 5, x2: 25, y2: 5, "stroke-width": 2.5, "stroke-dasharray": STROKES[dash(mark)] })) line.setAttribute(name, value);
  line.style.stroke = `var(--run-${mark % COLOURS})`;
  svg.append(line);
  return svg;
}
