// The comparison: series of every run, drawn over each other.

import "../calm.js";
import { Painter } from "../run/charts/painter.js";
import { el, say } from "../run/dom.js";
import { Store } from "../run/store.js";
import { sample } from "./marks.js";
import { Overlay } from "./overlay.js";

const POINTS = 600; // of one series
const LOOK_MS = 10000; // how often runs that go on are asked for news
const { metrics, runs: given } = JSON.parse(document.getElementById("drawn").textContent);
const KEYS = ["elapsed_seconds", "evaluation/loss", ...metrics.map((name) => `evaluation/${name}`)];
const view = { over: "version", hidden: new Set() };
const runs = given.map((run, mark) => ({ ...run, mark, store: new Store(), courses: {} }));
const painter = new Painter();

for (const plot of document.querySelectorAll("#charts .plot")) painter.add(new Overlay(plot, runs, view));

// ---------------------------------------------------------------- legend

const legend = document.getElementById("workers");
for (const run of runs) {
  const chip = el("button", { type: "button", class: "chip", "aria-pressed": "true", title: `Hide or show ${run.name}` }, sample(run.mark), el("span", { class: "clip" }, run.name));
  chip.addEventListener("click", () => {
    if (!view.hidden.delete(run.mark)) view.hidden.add(run.mark);
    chip.setAttribute("aria-pressed", String(!view.hidden.has(run.mark)));
    painter.touchAll();
  });
  legend.append(chip);
}

function markAll() {
  for (const place of document.querySelectorAll("[data-mark]")) {
    if (!place.firstChild) place.append(sample(Number(place.dataset.mark)));
  }
}
document.addEventListener("htmx:afterSwap", markAll);
markAll();

// ---------------------------------------------------------------- over what

const simulated = runs.filter((run) => run.simulated).length;
const clocks = { version: true, wall: simulated < runs.length, virtual: simulated > 0 };
for (const choice of document.querySelectorAll('input[name="over"]')) {
  choice.closest("label").hidden = !clocks[choice.value];
  choice.addEventListener("change", () => {
    view.over = choice.value;
    tellUndrawn();
    painter.touchAll();
  });
}

function tellUndrawn() {
  const without = view.over === "wall" ? simulated : view.over === "virtual" ? runs.length - simulated : 0;
  const [one, many] = view.over === "wall" ? ["simulated run has", "simulated runs have"] : ["run is not simulated and has", "runs are not simulated and have"];
  const clock = view.over === "wall" ? "no seconds on the wall" : "no virtual clock";
  say(document.getElementById("undrawn"), without ? `${without} ${without === 1 ? one : many} ${clock}` : "");
}

// ---------------------------------------------------------------- series

async function get(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return response.json();
}

async function load(run) {
  const wanted = new URLSearchParams([...KEYS.map((key) => ["key", key]), ["points", POINTS]]);
  const [answer, courses, summary] = await Promise.all([get(`${run.series}?${wanted}`), get(run.means), get(run.summary)]);
  const fresh = new Store();
  fresh.setAttempts(summary.attempts);
  fresh.load(answer.series);
  run.store = fresh;
  run.courses = courses;
  run.ended = summary.ended_at !== null;
  painter.touchAll();
}

async function loadAll(wanted) {
  const failed = [];
  await Promise.all(wanted.map((run) => load(run).catch((error) => failed.push(`${run.name}: ${error.message}`))));
  const place = document.getElementById("unloaded");
  place.hidden = failed.length === 0;
  say(place, failed.length ? `Could not load ${failed.join("; ")}` : "");
  document.getElementById("comparison").dataset.loaded = "yes";
}

async function follow() {
  const going = runs.filter((run) => !run.ended);
  if (!going.length) return;
  if (!document.hidden) await loadAll(going);
  setTimeout(follow, LOOK_MS);
}

await loadAll(runs);
setTimeout(follow, LOOK_MS);
