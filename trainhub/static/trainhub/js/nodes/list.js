// Machines and the queue, live; operators drain nodes and take them back.

import "../calm.js";
import { confirmed, send } from "../ask.js";

const nodes = document.getElementById("nodes");
const failed = document.getElementById("failed");

const WORDS = {
  drain: ["Drain", "It gets no new members; those it has work on to their end. Runs that need its slots wait.", "Drain it", "Keep it in use"],
  undrain: ["Take back", "Runs that wait may start on it at once.", "Take it back", "Leave it drained"],
};

nodes.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const { act, node } = button.dataset;
  const [title, text, yes, no] = WORDS[act];
  if (!(await confirmed(`${title} ${node}?`, text, yes, no, act === "drain"))) return;
  failed.hidden = true;
  try {
    await send("POST", `${nodes.dataset.api}/${encodeURIComponent(node)}/actions/${act}`);
    window.htmx.trigger(nodes, "refresh");
  } catch (error) {
    failed.textContent = `Could not ${act} ${node}: ${error.message}`;
    failed.hidden = false;
  }
});
