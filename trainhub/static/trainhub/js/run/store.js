// What the browser keeps of a run's series: at most 2,000 points each, of which extremes and non-finite ones stay.

const MOST_POINTS = 2000;

const NAMES = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };

function number(value) {
  return typeof value === "string" ? NAMES[value] : value;
}

class Series {
  constructor() {
    this.x = [];
    this.y = [];
  }

  // The server's answer replaces what it covers; what was heard before and after it stays.
  merge(x, y) {
    if (!x.length) return;
    const first = x[0];
    const last = x[x.length - 1];
    const before = lowerBound(this.x, first);
    const after = lowerBound(this.x, last + 1);
    this.x = this.x.slice(0, before).concat(x, this.x.slice(after));
    this.y = this.y.slice(0, before).concat(y.map(number), this.y.slice(after));
    this.thin();
  }

  append(x, y) {
    const last = this.x.length ? this.x[this.x.length - 1] : -Infinity;
    let grew = false;
    for (let i = 0; i < x.length; i += 1) {
      if (x[i] > last) {
        this.x.push(x[i]);
        this.y.push(number(y[i]));
        grew = true;
      }
    }
    this.thin();
    return grew;
  }

  // Twice the points are let in before half are dropped, so that thinning is rare. The newest stay as they are.
  thin() {
    if (this.x.length <= MOST_POINTS) return;
    const fresh = MOST_POINTS / 4;
    const old = this.x.length - fresh;
    const kept = extremes(this.y, old, MOST_POINTS / 2);
    for (let i = old; i < this.x.length; i += 1) kept.push(i);
    this.x = kept.map((i) => this.x[i]);
    this.y = kept.map((i) => this.y[i]);
  }
}

function lowerBound(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Of each stretch of the first `end` points the least, the greatest, and every non-finite one.
function extremes(y, end, points) {
  const kept = [];
  const width = Math.max(2, Math.ceil((2 * end) / points));
  for (let start = 0; start < end; start += width) {
    const stop = Math.min(end, start + width);
    let least = -1;
    let greatest = -1;
    const chosen = new Set();
    for (let i = start; i < stop; i += 1) {
      if (!Number.isFinite(y[i])) {
        chosen.add(i);
        continue;
      }
      if (least < 0 || y[i] < y[least]) least = i;
      if (greatest < 0 || y[i] > y[greatest]) greatest = i;
    }
    if (least >= 0) chosen.add(least).add(greatest);
    kept.push(...[...chosen].sort((a, b) => a - b));
  }
  return kept;
}

export class Store {
  constructor() {
    this.series = new Map(); // key → worker → attempt → Series
    this.limits = new Map(); // attempt → last version that counts
    this.restarts = []; // versions from which a later attempt went on
    this.ignored = () => false;
  }

  at(attempt, worker, key) {
    if (!this.series.has(key)) this.series.set(key, new Map());
    const workers = this.series.get(key);
    if (!workers.has(worker)) workers.set(worker, new Map());
    const attempts = workers.get(worker);
    if (!attempts.has(attempt)) attempts.set(attempt, new Series());
    return attempts.get(attempt);
  }

  // Lines of the API. Returns the keys that changed.
  load(lines) {
    const keys = new Set();
    for (const line of lines) {
      this.at(line.attempt, line.worker, line.key).merge(line.x, line.y);
      keys.add(line.key);
    }
    return keys;
  }

  // A delta of the stream. Returns the keys that changed.
  hear(delta) {
    const keys = new Set();
    for (const [worker, key, x, y] of delta.series) {
      if (this.ignored(key)) continue;
      if (this.at(delta.attempt, worker, key).append(x, y)) keys.add(key);
    }
    return keys;
  }

  // An attempt that went on from version R makes void what earlier ones did behind R.
  setAttempts(attempts) {
    this.limits.clear();
    this.restarts = [];
    let least = Infinity;
    for (let i = attempts.length - 1; i >= 0; i -= 1) {
      this.limits.set(attempts[i].number, least);
      if (i > 0) this.restarts.push(attempts[i].restored_version ?? 0);
      least = Math.min(least, attempts[i].restored_version ?? 0);
    }
  }

  workers(key) {
    return [...(this.series.get(key)?.keys() ?? [])].sort((a, b) => a - b);
  }

  keys() {
    return [...this.series.keys()];
  }

  // Points of all attempts that count, in the order of versions.
  points(worker, key) {
    const attempts = this.series.get(key)?.get(worker);
    if (!attempts) return { x: [], y: [] };
    if (attempts.size === 1) {
      const [[number, only]] = attempts;
      if ((this.limits.get(number) ?? Infinity) === Infinity) return only;
    }
    const x = [];
    const y = [];
    for (const number of [...attempts.keys()].sort((a, b) => a - b)) {
      const limit = this.limits.get(number) ?? Infinity;
      const one = attempts.get(number);
      for (let i = 0; i < one.x.length && one.x[i] <= limit; i += 1) {
        x.push(one.x[i]);
        y.push(one.y[i]);
      }
    }
    return { x, y };
  }

  // Mean of the newest finite points of the newest attempt. null: there are none.
  recent(worker, key, count = 50) {
    const { y } = this.points(worker, key);
    let sum = 0;
    let seen = 0;
    for (let i = y.length - 1; i >= 0 && seen < count; i -= 1) {
      if (Number.isFinite(y[i])) {
        sum += y[i];
        seen += 1;
      }
    }
    return seen ? sum / seen : null;
  }

  // Of the trainers; a run of very many has series of means beside those of some.
  recentOfAll(key, count = 50) {
    const means = this.workers(key).filter((w) => w >= 0).map((w) => this.recent(w, key, count)).filter((m) => m !== null);
    return means.length ? means.reduce((a, b) => a + b, 0) / means.length : null;
  }
}

// Running sums and distributions over all points, by key and worker.
export class Totals {
  constructor() {
    this.rows = new Map();
    this.attempt = 0;
  }

  load(totals) {
    this.rows.clear();
    for (const t of totals) {
      const row = this.at(t.worker, t.key);
      row.count += t.count;
      row.total += t.total;
      t.values.forEach((value, i) => row.seen.set(value, (row.seen.get(value) ?? 0) + t.counts[i]));
      row.lastX.set(t.attempt, t.last_x);
    }
  }

  at(worker, key) {
    const name = `${worker} ${key}`;
    if (!this.rows.has(name)) {
      this.rows.set(name, { worker, key, count: 0, total: 0, seen: new Map(), lastX: new Map() });
    }
    return this.rows.get(name);
  }

  hear(delta, keys) {
    for (const [worker, key, x, y] of delta.series) {
      if (!keys.has(key)) continue;
      const row = this.at(worker, key);
      const last = row.lastX.get(delta.attempt) ?? -Infinity;
      for (let i = 0; i < x.length; i += 1) {
        if (x[i] <= last || typeof y[i] === "string") continue;
        row.count += 1;
        row.total += y[i];
        row.seen.set(y[i], (row.seen.get(y[i]) ?? 0) + 1);
      }
      if (x.length) row.lastX.set(delta.attempt, Math.max(last, x[x.length - 1]));
    }
  }

  of(key) {
    return [...this.rows.values()].filter((r) => r.key === key && r.count).sort((a, b) => a.worker - b.worker);
  }
}
