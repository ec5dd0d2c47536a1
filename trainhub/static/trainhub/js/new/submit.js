// Sends a draft once. The key is the draft's own: a second click, or a try after a lost answer, makes no second experiment.

import { byId, say } from "../run/dom.js";
import { post } from "./check.js";

// crypto.randomUUID is absent on pages without TLS.
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Submit {
  constructor(draft, { body, save, done, refused }) {
    Object.assign(this, { draft, body, save, done, refused });
    this.button = byId("submit");
    this.message = byId("submit-error");
    this.sending = false;
    this.words = this.button.textContent;
  }

  label(runs, simulated) {
    const one = simulated ? "Start simulation" : "Start training";
    this.words = runs > 1 ? `Queue ${runs} runs` : one;
    if (!this.sending) say(this.button, this.words);
  }

  async send() {
    if (this.sending) return;
    this.draft.key ??= newKey();
    this.save();
    this.busy(true);
    this.say("");
    try {
      const response = await post("/api/v1/experiments", this.body(), { "Idempotency-Key": this.draft.key });
      await this.answered(response);
    } catch {
      this.busy(false);
      this.say("The server did not answer. Nothing is lost: try again, it will not start twice.");
    }
  }

  async answered(response) {
    const answer = await response.json();
    if (response.ok) {
      this.done(answer); // and the button stays busy until the next page is there
      return;
    }
    this.busy(false);
    if (answer.code === "key-reused") {
      this.draft.key = null; // the next click is meant
      this.save();
      this.say("An earlier try of this draft, with other values, has arrived: it is in the list of runs. Send again to start this one too.");
      return;
    }
    this.say(answer.detail ?? answer.title ?? "It was refused.");
    this.refused(answer.errors ?? []);
  }

  busy(sending) {
    this.sending = sending;
    this.button.setAttribute("aria-disabled", String(sending));
    say(this.button, sending ? "Sending…" : this.words);
  }

  say(text) {
    say(this.message, text);
    this.message.hidden = text === "";
  }
}
