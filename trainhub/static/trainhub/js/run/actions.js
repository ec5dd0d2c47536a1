// Pause, resume, queue again, cancel, kill. What can't be undone is asked twice.

import { byId, say } from "./dom.js";

const POSSIBLE = {
  pause: ["queued", "starting", "running"],
  resume: ["paused"],
  requeue: ["failed", "cancelled"],
  cancel: ["queued", "starting", "running", "paused"],
  kill: ["starting", "running"],
};

const WORDS = { requeue: "queue the run again" };

const QUESTIONS = {
  cancel: ["Cancel this run?", "It stops in order and keeps a last checkpoint. A cancelled run can be queued again.", "Cancel the run", "Keep it running"],
  kill: ["Kill this run?", "Every process of it ends at once. What came after the last checkpoint is lost.", "Kill the run", "Keep it running"],
};

// A simulation can't go on from its middle.
const cannotPause = (summary) => summary.simulated && summary.state !== "queued";

export class Actions {
  constructor(place, changed) {
    this.place = place;
    this.changed = changed;
    this.dialog = byId("confirm");
    for (const button of this.buttons()) {
      button.addEventListener("click", () => this.ask(button.dataset.action));
    }
  }

  buttons() {
    return this.place ? [...this.place.querySelectorAll("[data-action]")] : [];
  }

  show(summary) {
    for (const button of this.buttons()) {
      const { action } = button.dataset;
      button.hidden = !POSSIBLE[action].includes(summary.state) || (action === "pause" && cannotPause(summary));
      button.disabled = summary.wish === action || ["kill", "fail"].includes(summary.wish) ||
        (summary.wish === "cancel" && action === "pause");
    }
  }

  ask(action) {
    const question = QUESTIONS[action];
    if (!question) {
      this.send(action);
      return;
    }
    const [title, text, yes, no] = question;
    say(byId("confirm-title"), title);
    say(byId("confirm-text"), text);
    say(byId("confirm-yes"), yes);
    say(byId("confirm-no"), no);
    this.dialog.returnValue = "no";
    this.dialog.onclose = () => {
      if (this.dialog.returnValue === "yes") this.send(action);
    };
    this.dialog.showModal();
    byId("confirm-no").focus();
  }

  async send(action) {
    const failed = byId("action-error");
    failed.hidden = true;
    try {
      const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
      const address = `${this.place.dataset.address}${action}`;
      const response = await fetch(address, { method: "POST", headers: { "X-CSRFToken": token } });
      const body = await response.json();
      if (!response.ok) throw new Error(body.detail);
      this.changed(body);
    } catch (error) {
      failed.hidden = false;
      say(failed, `Could not ${WORDS[action] ?? `${action} the run`}: ${error.message}`);
    }
  }
}
