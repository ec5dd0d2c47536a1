// One worker, one colour, everywhere. The server is drawn in ink.

const NAMED = 8;

export const SERVER = -1;

function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// As CSS: follows the theme by itself.
export function swatch(worker) {
  if (worker === null || worker === undefined || worker === SERVER) return "var(--ink)";
  if (worker < NAMED) return `var(--worker-${worker})`;
  return `hsl(${hue(worker)} 55% 48%)`;
}

// As a value, for Plotly, which knows no variables.
export function colour(worker) {
  if (worker === SERVER) return variable("--ink");
  if (worker < NAMED) return variable(`--worker-${worker}`);
  return `hsl(${hue(worker)}, 55%, 48%)`;
}

// Golden angle: neighbours are far apart however many there are.
function hue(worker) {
  return Math.round((worker * 137.508) % 360);
}

export function inks() {
  return {
    ink: variable("--ink"),
    muted: variable("--muted"),
    line: variable("--line"),
    surface: variable("--surface"),
    accent: variable("--accent"),
    bad: variable("--bad"),
    compute: variable("--compute"),
    wait: variable("--wait"),
    transfer: variable("--transfer"),
  };
}
