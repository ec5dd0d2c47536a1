// Asks the server what a draft means: its errors, its YAML, and what it would do. The newest question alone counts.

const WAIT_MS = 300;
const AGAIN_MS = 4000;

export const csrf = () => document.querySelector("[name=csrfmiddlewaretoken]").value;

export function post(address, body, headers = {}, signal = undefined) {
  return fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrf(), ...headers },
    body: JSON.stringify(body),
    signal,
  });
}

export class Check {
  constructor({ body, answered, lost }) {
    this.body = body;
    this.answered = answered;
    this.lost = lost;
    this.number = 0;
    this.timer = 0;
    this.pending = null;
    addEventListener("online", () => this.now());
  }

  // After a pause in the typing.
  soon() {
    this.number += 1; // what is on its way answers an older question
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), WAIT_MS);
  }

  // Resolves when this question, or a newer one, was answered or could not be.
  now() {
    clearTimeout(this.timer);
    this.controller?.abort();
    this.controller = new AbortController();
    this.number += 1;
    this.pending = this.ask(this.number, this.controller.signal);
    return this.pending;
  }

  async ask(number, signal) {
    try {
      const response = await post("/api/v1/specs/check", this.body(), {}, signal);
      const answer = await response.json();
      if (number !== this.number) return;
      if (response.ok) this.answered(answer);
      else this.lost(answer.detail ?? "The draft can't be checked.");
    } catch (error) {
      if (error.name === "AbortError" || number !== this.number) return;
      this.lost("The server can't be reached. What you typed is kept, and checked again when it is back.");
      this.timer = setTimeout(() => this.now(), AGAIN_MS);
    }
  }
}
