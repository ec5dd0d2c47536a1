// Everything on the page that is not a chart.

import { bytes, clock, duration, full, measured, spelt, whole } from "../format.js";
import { byId, el, say } from "./dom.js";
import { swatch } from "./palette.js";

const WISHES = { pause: "pausing", cancel: "cancelling", kill: "killing", fail: "stopping" };
const ENDED = ["completed", "failed", "cancelled"];
const SHOWN_LINES = 1000;

const seconds = (iso) => Date.parse(iso) / 1000;

export class Header {
  constructor() {
    this.summary = null;
    this.offset = 0; // the server's clock minus ours
    setInterval(() => this.tick(), 1000);
  }

  show(summary) {
    this.summary = summary;
    this.offset = seconds(summary.now) - Date.now() / 1000;
    this.toldLeft = summary.seconds_left;
    this.toldAt = Date.now() / 1000;
    const state = byId("state");
    const word = WISHES[summary.wish] ?? summary.state;
    if (state.textContent !== word) {
      state.className = `state state-${summary.state}`;
      say(state, word);
    }
    byId("progress").className = `state-${summary.state}-bar`;
    this.notice(summary);
    this.tick();
  }

  hear(progress) {
    if (!progress || !this.summary) return;
    this.summary = { ...this.summary, ...progress };
  }

  notice(summary) {
    const key = [summary.state, summary.waiting_reason, summary.cause, summary.detail].join("|");
    if (key === this.noticed) return;
    this.noticed = key;
    if (ENDED.includes(summary.state)) {
      say(byId("no-log"), "Nothing was printed.");
      say(byId("no-checkpoints"), "None was made.");
    }
    const box = byId("notice");
    box.replaceChildren();
    if (summary.state === "failed") {
      const detail = summary.detail ? el("pre", { tabindex: 0 }, summary.detail) : null;
      box.append(el("div", { class: "notice notice-bad" }, el("strong", {}, `Failed: ${summary.cause.replaceAll("-", " ") || "unknown cause"}`), detail));
    } else if (summary.state === "queued") {
      const reason = summary.waiting_reason || "The scheduler has not looked at it yet.";
      box.append(el("div", { class: "notice" }, el("strong", {}, "Waiting: "), reason));
    } else if (summary.state === "paused") {
      box.append(el("div", { class: "notice notice-warn" }, `Paused at version ${whole(summary.version)}. It goes on from there when you resume it.`));
    }
  }

  tick() {
    const s = this.summary;
    if (!s) return;
    const percent = s.fraction === null ? null : Math.floor(100 * s.fraction);
    const bar = byId("progress");
    bar.value = s.fraction ?? 0;
    bar.setAttribute("aria-valuetext", percent === null ? `version ${s.version}` : `${percent} per cent`);
    say(byId("done"), percent === null ? s.budget : `${percent} % of ${s.budget}`);
    say(byId("left"), this.left(s));
    say(byId("elapsed"), this.elapsed(s));
    say(byId("elapsed-label"), s.state === "queued" ? "Waiting for" : "Time");
    const title = percent !== null && !ENDED.includes(s.state) ? `${percent} % · ${s.name}` : `${s.state} · ${s.name}`;
    if (document.title !== title) document.title = title;
  }

  left(s) {
    if (s.state !== "running") return "";
    if (this.toldLeft === null) return "time left not known yet";
    return `about ${duration(Math.max(1, this.toldLeft - (Date.now() / 1000 - this.toldAt)))} left`;
  }

  elapsed(s) {
    const since = s.state === "queued" ? s.queued_at : s.started_at;
    if (!since) return "–";
    const until = s.ended_at ? seconds(s.ended_at) : Date.now() / 1000 + this.offset;
    return duration(Math.max(0, Math.floor(until - seconds(since))));
  }
}

export class Figures {
  constructor(store, metrics) {
    this.store = store;
    this.metrics = metrics;
  }

  show(summary) {
    const { store } = this;
    set("loss", store.recentOfAll("loss") ?? summary.metrics.loss);
    for (const name of this.metrics) set(`metric-${name}`, summary.metrics[name]);
    set("staleness", store.recentOfAll("staleness"), 3);
    const ended = ENDED.includes(summary.state);
    const speed = summary.simulated ? "virtual speed" : "speed";
    say(byId("figure-rate-label"), ended ? `Mean ${speed}` : speed[0].toUpperCase() + speed.slice(1));
    set("rate", store.recent(-1, "updates_per_second", ended ? Infinity : 3), 3);
    say(byId("figure-version"), whole(summary.version));
    if (summary.simulated) say(byId("figure-virtual"), summary.virtual_seconds === null ? "–" : duration(summary.virtual_seconds));
    say(byId("figure-refused"), whole(summary.refused));
    const dropped = summary.dropped ?? store.recent(-1, "dropped", 1) ?? 0;
    say(byId("figure-dropped"), whole(dropped));
    if (dropped) byId("dropped").hidden = false;
  }
}

function set(id, value, digits) {
  const place = byId(`figure-${id}`);
  if (place) say(place, measured(value ?? null, digits));
}

// Chips that name trainers and their colours, and hide or show them in every chart.
export class Workers {
  constructor(store, changed) {
    this.store = store;
    this.changed = changed;
    this.hidden = new Set();
    this.chips = new Map();
    this.place = byId("workers");
  }

  shows(worker) {
    return !this.hidden.has(worker);
  }

  show(members) {
    const named = members.filter((m) => m.worker !== null && m.worker >= 0).map((m) => m.worker);
    const all = [...new Set([...named, ...this.store.workers("loss")])].filter((w) => w >= 0).sort((a, b) => a - b);
    for (const worker of all) if (!this.chips.has(worker)) this.add(worker, all);
    for (const [worker, { value }] of this.chips) {
      const staleness = this.store.recent(worker, "staleness");
      say(value, staleness === null ? "" : `staleness ${measured(staleness, 2)}`);
    }
  }

  add(worker) {
    const value = el("span", { class: "value" });
    const chip = el(
      "button",
      { type: "button", class: "chip", "aria-pressed": "true", title: `Hide or show trainer ${worker} in all charts` },
      el("span", { class: "swatch", "--swatch": swatch(worker) }),
      `trainer ${worker}`,
      value,
    );
    chip.addEventListener("click", () => {
      if (!this.hidden.delete(worker)) this.hidden.add(worker);
      chip.setAttribute("aria-pressed", String(this.shows(worker)));
      this.changed();
    });
    this.chips.set(worker, { chip, value });
    const later = [...this.chips.keys()].filter((w) => w > worker).sort((a, b) => a - b)[0];
    this.place.insertBefore(chip, later === undefined ? byId("workers-hint") : this.chips.get(later).chip);
  }
}

// How a member and its server reach each other. A server's own: where those of other nodes reach it.
function connection(member, address) {
  if (member.role === "server") return address || "no port";
  const words = { tls: "TLS", "shared memory": "shared memory" };
  return member.transport ? (words[member.transport] ?? member.transport) : "–";
}

export class Members {
  constructor(store) {
    this.store = store;
    this.rows = new Map();
    this.body = byId("members");
  }

  show(members, address) {
    this.address = address;
    byId("no-members").hidden = members.length > 0;
    const known = new Set(members.map((m) => m.id));
    for (const [id, row] of this.rows) {
      if (!known.has(id)) {
        row.line.remove();
        this.rows.delete(id);
      }
    }
    const order = (m) => (m.role === "server" || m.role === "simulation" ? -2 : m.worker ?? 1e6);
    [...members].sort((a, b) => order(a) - order(b) || a.id - b.id).forEach((member, index) => this.place(member, index));
  }

  place(member, index) {
    if (!this.rows.has(member.id)) this.rows.set(member.id, this.make());
    const row = this.rows.get(member.id);
    row.member = member;
    const server = member.role === "server";
    row.line.className = ["finished", "failed", "lost"].includes(member.state) ? "gone" : "";
    row.swatch.className = ["server", "evaluator", "simulation"].includes(member.role) ? "swatch server" : "swatch";
    row.swatch.style.setProperty("--swatch", member.role ? swatch(member.role === "trainer" ? member.worker : -1) : "var(--line-strong)");
    say(row.title, server ? "parameter server" : member.title);
    say(row.where, member.node ? `${member.node} ${member.slot}` : "–");
    say(row.link, connection(member, this.address));
    row.link.title = member.peer ? `from ${member.peer}` : "";
    row.state.className = `state state-${member.state}`;
    say(row.state, member.state);
    row.state.title = [member.cause.replaceAll("-", " "), member.detail].filter(Boolean).join(": ");
    if (this.body.children[index] !== row.line) this.body.insertBefore(row.line, this.body.children[index] ?? null);
    this.measure();
  }

  make() {
    const row = {
      swatch: el("span", { class: "swatch" }),
      title: el("span"),
      where: el("td", { class: "muted" }),
      link: el("td", { class: "muted nowrap" }),
      state: el("span", { class: "state" }),
      staleness: el("td", { class: "number" }),
      gradients: el("td", { class: "number" }),
    };
    const named = el("span", { class: "titled" }, row.swatch, row.title);
    row.line = el("tr", {}, el("td", {}, named), row.where, el("td", {}, row.state), row.link, row.staleness, row.gradients);
    return row;
  }

  measure(steps = this.steps) {
    this.steps = steps;
    for (const row of this.rows.values()) {
      const trainer = row.member?.role === "trainer";
      const staleness = trainer ? this.store.recent(row.member.worker, "staleness") : null;
      say(row.staleness, staleness === null ? "–" : measured(staleness, 2));
      const applied = trainer ? steps?.(row.member.worker) : null;
      say(row.gradients, applied ? whole(applied) : "–");
    }
  }
}

export class Timeline {
  constructor(start) {
    this.list = byId("timeline");
    this.seen = new Set();
    this.start = start;
  }

  // Newest first: what has just happened is at the top, where one looks.
  add(events) {
    const fresh = events.filter((e) => !this.seen.has(e.id));
    if (!fresh.length) return;
    byId("no-events").hidden = true;
    const kept = this.list.scrollTop;
    const height = this.list.scrollHeight;
    for (const event of fresh) {
      this.seen.add(event.id);
      this.insert(event);
    }
    if (kept > 0) this.list.scrollTop = kept + this.list.scrollHeight - height; // what one reads stays put
  }

  insert(event) {
    const since = (Date.parse(event.at) - Date.parse(this.start)) / 1000;
    const word = event.level === "info" ? null : el("span", { class: "word" }, event.level === "error" ? "Error" : "Warning");
    const who = event.member && !event.message.includes(event.member)
      ? el("span", { class: "muted" }, ` · ${event.member}`)
      : null;
    const detail = event.detail && event.detail !== event.message
      ? el("details", {}, el("summary", { class: "small muted" }, "Details"), el("pre", {}, event.detail))
      : null;
    const line = el(
      "li",
      { class: `is-${event.level}` },
      el("time", { datetime: event.at, title: `${full(event.at)}, attempt ${event.attempt}` }, `+${duration(Math.max(0, since))}`),
      el("div", {}, el("span", { class: "titled", style: "white-space:normal;align-items:baseline" },
        event.worker === null ? null : el("span", { class: "swatch", "--swatch": swatch(event.worker) }),
        el("span", {}, word, event.message, who)), detail),
    );
    line.event = event;
    const older = [...this.list.children].find((other) => before(other.event, event));
    this.list.insertBefore(line, older ?? null);
  }
}

const before = (a, b) => a.at < b.at || (a.at === b.at && a.id < b.id);

export class Log {
  constructor() {
    this.list = byId("log");
    this.filter = byId("log-filter");
    this.lines = [];
    this.seen = new Set();
    this.from = new Set();
    this.filter.addEventListener("change", () => this.draw());
  }

  add(lines) {
    const fresh = lines.filter((line) => !this.seen.has(line.id));
    if (!fresh.length) return;
    for (const line of fresh) {
      this.seen.add(line.id);
      this.offer(line);
    }
    const ordered = !this.lines.length || fresh[0].id > this.lines[this.lines.length - 1].id;
    this.lines.push(...fresh);
    if (!ordered) this.lines.sort((a, b) => a.id - b.id);
    while (this.lines.length > SHOWN_LINES) this.seen.delete(this.lines.shift().id);
    if (ordered) this.append(fresh);
    else this.draw();
  }

  offer(line) {
    if (this.from.has(line.member)) return;
    this.from.add(line.member);
    this.filter.append(el("option", { value: line.member }, line.member));
  }

  append(lines) {
    const { list } = this;
    const following = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    const wanted = this.filter.value;
    list.append(...lines.filter((line) => !wanted || line.member === wanted).map(row));
    while (list.children.length > SHOWN_LINES) list.firstElementChild.remove();
    byId("no-log").hidden = list.children.length > 0;
    if (following) list.scrollTop = list.scrollHeight;
  }

  draw() {
    this.list.replaceChildren();
    this.append(this.lines);
    this.list.scrollTop = this.list.scrollHeight;
  }
}

function row(line) {
  return el(
    "li",
    {},
    el("time", { datetime: line.at, title: full(line.at) }, clock(line.at)),
    el("span", { class: "from" }, el("span", { class: "swatch", "--swatch": swatch(line.worker) }), line.member),
    el("span", { class: "text" }, line.text),
  );
}

export class Checkpoints {
  constructor() {
    this.continues = byId("checkpoints-table").dataset.continue; // undefined: this person may not submit
  }

  show(checkpoints) {
    const key = checkpoints.map((c) => c.id).join();
    if (key === this.shown) return;
    this.shown = key;
    byId("no-checkpoints").hidden = checkpoints.length > 0;
    byId("checkpoints-table").hidden = checkpoints.length === 0;
    const link = byId("continue");
    if (link && checkpoints.length) {
      link.href = `${this.continues}&version=${checkpoints[0].version}`;
      link.hidden = false;
    }
    byId("checkpoints").replaceChildren(...checkpoints.map((c) => this.row(c)));
  }

  row(c) {
    const metrics = Object.entries(c.metrics)
      .filter(([name]) => name !== "version")
      .map(([name, value]) => `${spelt(name)} ${measured(value)}`)
      .join(", ");
    return el(
      "tr",
      {},
      el("td", { class: "nowrap" }, `version ${whole(c.version)}`, c.final ? el("span", { class: "muted" }, " · final") : null),
      el("td", {}, metrics || el("span", { class: "muted" }, "not evaluated")),
      el("td", { class: "number" }, bytes(c.size_bytes)),
      el("td", { class: "mono muted", title: `SHA-256 ${c.sha256}` }, c.sha256.slice(0, 12)),
      el("td", { class: "muted nowrap" }, el("time", { datetime: c.created_at, title: full(c.created_at) }, clock(c.created_at))),
      el("td", { class: "number" }, el("span", { class: "links" },
        this.continues ? el("a", { href: `${this.continues}&version=${c.version}`, "aria-label": `Continue from version ${c.version}` }, "Continue") : null,
        el("a", { href: c.url, download: true, "aria-label": `Download the checkpoint of version ${c.version}` }, "Download"))),
    );
  }
}
