// Numbers in words. The same rules as trainhub/words.py.

export function duration(seconds) {
  if (seconds > 0 && seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function whole(value) {
  return Math.round(value).toLocaleString("en-US");
}

// A measured value with `digits` digits that count; as wide whatever its last digits are.
export function measured(value, digits = 4) {
  if (typeof value === "string") return value; // NaN, Infinity
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(digits - 2);
  return value.toFixed(Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(size)))));
}

// A metric's name as people write it.
export function spelt(name) {
  return name.replaceAll("_", " ");
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

// The unit in which so many bytes are a number that is easy to read, and its size.
export function byteUnit(value) {
  const power = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(value) / 10));
  return [UNITS[power], 1024 ** power];
}

export function bytes(value) {
  const [unit, size] = byteUnit(value);
  return `${size === 1 ? value : (value / size).toFixed(1)} ${unit}`;
}

export function clock(iso) {
  return new Date(iso).toLocaleTimeString("en-GB", { hour12: false });
}

export function full(iso) {
  return new Date(iso).toLocaleString("en-GB", { hour12: false });
}
