// The list of runs: filters live in the address, chosen runs in memory, rows come every few seconds.

import "../calm.js";
import { el, say } from "../run/dom.js";

const TYPING_MS = 250;
const rows = document.getElementById("runs");
const filters = document.getElementById("filters");
const bar = document.getElementById("chosen");
const most = Number(bar.dataset.most);
const chosen = new Set(new URLSearchParams(location.search).getAll("choose")); // a run's page leads here with its own

// ---------------------------------------------------------------- filters

function refresh() {
  window.htmx.trigger(rows, "refresh");
}

// The address tells what is shown, without what is left empty, so that it can be kept and sent to others.
function follow() {
  const given = [...new FormData(filters)].filter(([name, value]) => value && !(name === "sort" && value === "newest"));
  const query = new URLSearchParams(given).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  refresh();
}

let typing = 0;
filters.addEventListener("input", (event) => {
  if (event.target.type !== "search") return;
  clearTimeout(typing);
  typing = setTimeout(follow, TYPING_MS);
});
filters.addEventListener("change", (event) => {
  clearTimeout(typing);
  if (event.target.type !== "search") follow();
});
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  follow();
});

rows.addEventListener("click", (event) => {
  const link = event.target.closest(".pages a");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  history.replaceState(null, "", link.href);
  refresh();
  scrollTo({ top: 0 });
});

// ---------------------------------------------------------------- chosen runs

function boxes() {
  return [...rows.querySelectorAll('input[name="run"]')];
}

function show() {
  for (const box of boxes()) {
    box.checked = chosen.has(box.value);
    box.closest("tr").classList.toggle("is-chosen", box.checked);
  }
  const count = chosen.size;
  bar.hidden = count === 0;
  const hint = count === 1 ? "choose another one to compare it with" : count > most ? `${most} at most can be compared` : "";
  say(bar.querySelector("[data-count]"), `${count} ${count === 1 ? "run" : "runs"} chosen`);
  say(bar.querySelector("[data-hint]"), hint);
  bar.querySelector("[data-compare]").disabled = count < 2 || count > most;
}

rows.addEventListener("change", (event) => {
  const box = event.target.closest('input[name="run"]');
  if (!box) return;
  if (box.checked) chosen.add(box.value);
  else chosen.delete(box.value);
  show();
});

bar.querySelector("[data-clear]").addEventListener("click", () => {
  chosen.clear();
  show();
});

// Also those that other pages of the list have.
document.getElementById("compare").addEventListener("submit", (event) => {
  const form = event.target;
  for (const old of form.querySelectorAll("input")) old.remove();
  const shown = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
  for (const run of chosen) if (!shown.has(run)) form.append(el("input", { type: "hidden", name: "run", value: run }));
});

document.addEventListener("htmx:afterSwap", show);
// The browser ticks boxes again when one comes back to the page.
addEventListener("pageshow", () => {
  for (const box of boxes()) if (box.checked) chosen.add(box.value);
  show();
});
