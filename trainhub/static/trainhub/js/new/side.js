// What a draft would do, in words, beside it.

import { byId, say } from "../run/dom.js";

const PARTS = ["problem", "method", "trainers", "budget"];

// While a draft is wrong somewhere, what the last right one would do stays, in grey.
export function showWords({ words, slots, runs, valid }) {
  byId("will").dataset.known = valid ? "yes" : "no";
  if (!words) return;
  for (const part of PARTS) say(byId(`words-${part}`), words?.[part] || "–");
  say(byId("words-runs"), runs ? `${runs}` : "–");
  say(byId("words-slots"), slots ? needed(slots, runs) : "–");
  say(byId("words-idle"), slots ? `${slots.idle} of ${slots.total}` : "–");
  const wait = byId("words-wait");
  say(wait, slots?.wait || "");
  wait.hidden = !slots?.wait;
  wait.classList.toggle("notice-warn", !slots?.wait.startsWith("Starts"));
}

function needed({ needed: most, least }, runs) {
  const each = runs > 1 ? " for each run" : "";
  return least < most ? `${least} to ${most}${each}` : `${most}${each}`;
}
