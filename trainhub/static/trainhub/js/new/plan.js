// What the layouts of a machine group come to, beside the draft: asked for anew whenever the group is another one.

import { bytes } from "../format.js";
import { byId, el, say } from "../run/dom.js";
import { post } from "./check.js";

const ms = (seconds) => (seconds === null ? "–" : `${(1000 * seconds).toFixed(1)} ms`);
const ROWS = [
  ["Sent for the last layer", (side) => bytes(side.last_layer_bytes)],
  ["Sent for the layers below", (side) => bytes(side.other_bytes)],
  ["Memory it works on", (side) => bytes(side.memory_bytes)],
  ["Time, tried on the server", (side) => ms(side.step_seconds)],
];

export class Plan {
  constructor(body) {
    this.body = body;
    this.known = null;
    this.number = 0;
    byId("plan-measure").addEventListener("click", () => this.ask(true));
  }

  // `spec` is the last one that was right.
  show(spec) {
    const group = spec?.layout?.kind === "hybrid";
    byId("plan").hidden = !group;
    if (!group) return;
    const key = JSON.stringify([spec.problem, spec.layout, spec.batch_size, spec.accumulation]);
    if (key === this.known) return;
    this.known = key;
    this.ask(false);
  }

  async ask(measured) {
    this.number += 1;
    const { number } = this;
    const button = byId("plan-measure");
    button.disabled = true;
    say(byId("plan-recommended"), measured ? "Trying some steps of both layouts …" : "Working it out …");
    const { project, spec, yaml } = this.body();
    try {
      const response = await post("/api/v1/specs/plan", { ...(project ? { project } : {}), ...(yaml ? { yaml } : { spec }), measured });
      const answer = await response.json();
      if (number !== this.number) return;
      if (response.ok) this.tell(answer);
      else this.refuse(answer);
    } catch {
      if (number === this.number) say(byId("plan-recommended"), "The server can't be reached.");
    } finally {
      if (number === this.number) button.disabled = false;
    }
  }

  tell(plan) {
    say(byId("plan-inequality"), plan.inequality);
    byId("plan-rows").replaceChildren(...ROWS.map(([title, of]) => el("tr", {},
      el("th", { scope: "row" }, title),
      ...[plan.hybrid, plan.data_parallel].map((side) => el("td", { class: "number" }, of(side))))));
    byId("plan-table").hidden = false;
    say(byId("plan-recommended"), `Recommended: ${plan.recommended}. ${plan.reason[0].toUpperCase()}${plan.reason.slice(1)}.`);
  }

  refuse({ errors, detail }) {
    byId("plan-table").hidden = true;
    say(byId("plan-recommended"), errors?.map((e) => `${e.field}: ${e.message}`).join("; ") || detail || "There is no plan of this.");
  }
}
