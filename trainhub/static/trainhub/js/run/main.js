// The page of a run: the stream fills the store, the store feeds charts and panels.

import { spelt } from "../format.js";
import { Actions } from "./actions.js";
import { Distribution, TimeShares } from "./charts/bars.js";
import { AroundServer, TowardsValue, WithContext } from "./charts/besides.js";
import { GROUP, PHASES, PhaseBars, TRAFFIC, TrafficBars, legend } from "./charts/groups.js";
import { OverVersions } from "./charts/over_versions.js";
import { Painter } from "./charts/painter.js";
import { byId, el, say } from "./dom.js";
import { OverTime, Sawtooth } from "./own.js";
import { Checkpoints, Figures, Header, Log, Members, Timeline, Workers } from "./panels.js";
import { Store, Totals } from "./store.js";
import { Stream } from "./stream.js";

const page = byId("run");
const api = page.dataset.api;
const initial = JSON.parse(byId("summary").textContent);
const BATCH_NORM = /^batch_norm\/(.*)\/(mean|variance|mean_shift|log_variance_ratio)$/;
const SUMMED = new Set(["staleness", "compute_seconds", "wait_seconds", "transfer_seconds"]);
const KEYS = [
  "loss", "staleness", "learning_rate", "updates_per_second", "train/*", "evaluation/*",
  "context", "mean_delay", "scale_sum", "dropped", "staleness/greatest", "elapsed_seconds",
  "candidates", "unacknowledged", "drift", "drift_left",
];
if (byId("chart-scale")) KEYS.push("scale");
if (!byId("groups").hidden) KEYS.push("group/*");
const TOTALS_MS = 30000; // deltas are thinned, so sums made of them are set right now and then

const store = new Store();
const totals = new Totals();
const painter = new Painter();
let summary = initial;
let layer = null;

store.ignored = (key) => {
  const named = BATCH_NORM.exec(key);
  if (named) offerLayer(named[1]);
  return named !== null && named[1] !== layer;
};

// ---------------------------------------------------------------- charts

const shown = (worker) => worker < 0 || workers.shows(worker);
const workers = new Workers(store, () => painter.touchAll());
const WAITING = {
  queued: "Points appear here when the run trains",
  starting: "Points appear here when the run trains",
};

function overVersions(id, options, Kind = OverVersions) {
  const chart = new Kind(byId(id), store, shown, { empty: WAITING[initial.state] ?? "Nothing was measured", ...options });
  chart.zoom = zoom;
  chart.wake = () => painter.wake();
  return painter.add(chart);
}

overVersions("chart-loss", { key: "loss", evaluation: "evaluation/loss", log: true });
for (const plot of document.querySelectorAll("[data-metric]")) addMetric(plot);
overVersions("chart-staleness", {
  key: "staleness", context: "context", greatest: "staleness/greatest", unit: "versions", toZero: true,
}, WithContext);
overVersions("chart-mean-delay", {
  key: "mean_delay", unit: "versions", smooth: false, towards: () => summary.mean_delay.versions,
}, TowardsValue);
overVersions("chart-learning-rate", { key: "learning_rate", log: true, faint: 0.14 });
if (byId("chart-scale")) overVersions("chart-scale", { key: "scale", log: true, faint: 0.14, toZero: true });
overVersions("chart-scale-sum", { key: "scale_sum", faint: 0.2, toZero: true });
overVersions("chart-updates", {
  key: "updates_per_second", unit: initial.simulated ? "updates per virtual s" : "updates/s", smooth: false, toZero: true,
});
overVersions("chart-loss-time", {
  key: "loss", evaluation: "evaluation/loss", log: true, clock: "elapsed_seconds",
  timeTitle: initial.simulated ? "virtual seconds of training" : "seconds of training",
}, OverTime);
overVersions("chart-candidates", { key: "candidates", unit: "periods", faint: 0.2, toZero: true });
overVersions("chart-unacknowledged", { key: "unacknowledged", unit: "gradients", faint: 0.2, toZero: true });
overVersions("chart-drift", { key: "drift", left: "drift_left", toZero: true }, Sawtooth);
const ofLayer = {
  mean: overVersions("chart-bn-mean", { key: "" }, AroundServer),
  variance: overVersions("chart-bn-variance", { key: "" }, AroundServer),
  mean_shift: overVersions("chart-bn-shift", { key: "", toZero: true, neighbours: 1 / 12, faint: 0.18 }),
  log_variance_ratio: overVersions("chart-bn-log-ratio", { key: "", toZero: true, neighbours: 1 / 12, faint: 0.18 }),
};
const distribution = painter.add(new Distribution(byId("chart-distribution"), store, shown, totals, "staleness"));
const shares = painter.add(new TimeShares(byId("chart-time"), store, shown, totals, [
  ["compute_seconds", "computing", "compute"],
  ["wait_seconds", "waiting", "wait"],
  ["transfer_seconds", "transferring", "transfer"],
]));
const groups = [
  painter.add(new PhaseBars(byId("chart-phases"), store, shown)),
  painter.add(new TrafficBars(byId("chart-traffic"), store, shown)),
];
legend(byId("phases-key"), PHASES);
legend(byId("traffic-key"), TRAFFIC);
for (const chart of groups) chart.empty = WAITING[initial.state] ?? "Nothing was measured";
for (const chart of Object.values(ofLayer)) chart.empty = "No batch-norm statistics yet: they come with the first batches of a model that has such layers";
for (const chart of [distribution, shares]) chart.empty = WAITING[initial.state] ?? "Nothing was measured";

function addMetric(plot) {
  const name = plot.dataset.metric;
  overVersions(plot.id, { key: `train/${name}`, evaluation: `evaluation/${name}` });
}

// Metrics that were not known when the page was made get their charts behind the others, where nothing moves.
function noticeMetrics(keys) {
  for (const key of keys) {
    const name = /^(?:train|evaluation)\/(.*)$/.exec(key)?.[1];
    if (!name || name === "loss" || document.querySelector(`[data-metric="${CSS.escape(name)}"]`)) continue;
    const plot = el("div", { class: "plot", id: `chart-metric-${name}`, "data-metric": name });
    byId("learning").append(el("figure", { class: "chart" }, el("figcaption", {}, el("h3", {}, spelt(name))), plot));
    addMetric(plot);
  }
}

// What a run has though its specification does not promise it gets its place when it comes.
const UNPROMISED = {
  context: byId("context-key"),
  mean_delay: byId("chart-mean-delay").parentElement,
  scale_sum: byId("chart-scale-sum").parentElement,
  dropped: byId("dropped"),
  drift: byId("own-steps"),
  candidates: byId("chart-candidates").parentElement,
  unacknowledged: byId("chart-unacknowledged").parentElement,
};

function makePlaces(keys) {
  for (const key of keys) {
    if (UNPROMISED[key]) UNPROMISED[key].hidden = false;
    if (GROUP.test(key)) byId("groups").hidden = false;
    const chart = ofLayer[BATCH_NORM.exec(key)?.[2]];
    if (chart) chart.plot.parentElement.hidden = false;
  }
}

// The stretch one zooms into is fetched anew: as many points for it as for the whole before.
async function zoom(chart, first, last) {
  const asked = { first, last };
  chart.asked = asked;
  const wanted = new URLSearchParams([...chart.keys().map((key) => ["key", key]), ["first", first], ["last", last]]);
  const answer = await get(`series?${wanted}`);
  if (chart.asked !== asked) return;
  const fine = new Store();
  fine.setAttempts(summary.attempts);
  fine.load(answer.series);
  const live = answer.series.every((line) => line.exact) && last >= summary.version;
  chart.detail = live ? null : { first, last, store: fine };
  chart.dirty = true;
  painter.wake();
}

// ---------------------------------------------------------------- batch-norm layers

const layers = byId("layer");

function offerLayer(name) {
  if ([...layers.options].some((option) => option.value === name)) return;
  const later = [...layers.options].find((option) => option.value.localeCompare(name, "en", { numeric: true }) > 0);
  layers.insertBefore(el("option", { value: name }, name), later ?? null);
  byId("batch-norm").hidden = byId("layer-label").hidden = false;
  if (layer === null) chooseLayer(name);
}

const layerKeys = () => Object.values(ofLayer).map((chart) => chart.key);

async function chooseLayer(name) {
  layer = name;
  layers.value = name;
  for (const [kind, chart] of Object.entries(ofLayer)) {
    chart.key = `batch_norm/${name}/${kind}`;
    chart.detail = null;
  }
  const keys = layerKeys();
  const answer = await get(`series?${new URLSearchParams(keys.map((key) => ["key", key]))}`);
  store.load(answer.series);
  painter.touch(new Set(keys));
}

layers.addEventListener("change", () => chooseLayer(layers.value));

// ---------------------------------------------------------------- panels

const header = new Header();
const figures = new Figures(store, JSON.parse(byId("metrics").textContent));
const members = new Members(store);
const timeline = new Timeline(initial.created_at);
const log = new Log();
const checkpoints = new Checkpoints();
const actions = new Actions(byId("actions"), (answer) => showSummary(answer));
const applied = (worker) => totals.of("staleness").find((row) => row.worker === worker)?.count;

function showSummary(next) {
  const ended = summary.ended_at === null && next.ended_at !== null;
  const restarted = next.attempts.length !== summary.attempts.length;
  summary = next;
  store.setAttempts(next.attempts);
  header.show(next);
  workers.show(next.members);
  members.show(next.members, next.address);
  checkpoints.show(next.checkpoints);
  actions.show(next);
  showNumbers();
  showMeanDelay(next.mean_delay);
  if (restarted) painter.touchAll();
  if (ended || restarted) loadTotals();
}

function showNumbers() {
  figures.show(header.summary ?? summary);
  workers.show(summary.members);
  members.measure(applied);
}

function showMeanDelay({ words, claimed }) {
  const place = byId("mean-delay-words");
  say(place, `dashed: ${words}${claimed ? "" : ", not claimed here"}`);
  place.title = claimed ? "" : "The mean must tend to it only where every gradient is applied";
}

let numbersDue = false;
function numbersSoon() {
  if (numbersDue) return;
  numbersDue = true;
  setTimeout(() => {
    numbersDue = false;
    header.tick();
    showNumbers();
  }, 400);
}

// ---------------------------------------------------------------- the stream

async function get(path) {
  const response = await fetch(`${api}${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

async function loadTotals() {
  const answer = await get(`totals?${new URLSearchParams([...SUMMED].map((key) => ["key", key]))}`);
  totals.load(answer.totals);
  painter.touch(SUMMED);
  members.measure(applied);
}

async function catchUp(after) {
  const wanted = new URLSearchParams(KEYS.map((key) => ["key", key]));
  if (after >= 0) wanted.set("after", after);
  if (layer !== null) for (const key of layerKeys()) wanted.append("key", key);
  const [answer] = await Promise.all([get(`series?${wanted}`), loadTotals()]);
  const keys = store.load(answer.series);
  noticeMetrics(keys);
  makePlaces(answer.keys);
  for (const key of answer.keys) {
    const named = BATCH_NORM.exec(key);
    if (named) offerLayer(named[1]);
  }
  painter.touch(keys);
  showNumbers();
  page.dataset.loaded = "yes";
  return answer.sequence;
}

function hearSnapshot(message) {
  showSummary(message.summary);
  timeline.add(message.events);
  log.add(message.log);
}

function hearDelta(delta) {
  const keys = store.hear(delta);
  totals.hear(delta, SUMMED);
  noticeMetrics(keys);
  makePlaces(keys);
  header.hear(delta.progress);
  painter.touch(keys);
  painter.touch(SUMMED);
  numbersSoon();
}

function showLive(live) {
  const link = byId("link");
  link.dataset.live = live ? "yes" : "no";
  say(link, live ? "live" : "reconnecting");
}

showSummary(initial);
painter.touchAll();
setInterval(() => {
  if (summary.state === "running" && !document.hidden) loadTotals().catch(() => {});
}, TOTALS_MS);

new Stream(`${location.origin.replace(/^http/, "ws")}/live/runs/${initial.id}/`, {
  snapshot: hearSnapshot,
  changed: hearSnapshot,
  delta: hearDelta,
  live: showLive,
  catchUp,
}).open();
