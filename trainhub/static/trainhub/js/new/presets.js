// Ready specs to start from. What was there before comes back with Undo.

import { byId, el, say } from "../run/dom.js";

export class Presets {
  constructor(presets, { chosen }) {
    this.presets = presets;
    this.chosen = chosen;
    byId("preset-cards").append(...presets.map((preset) => this.card(preset)));
  }

  card(preset) {
    const button = el("button", { type: "button", class: "preset", "data-slug": preset.slug, "aria-pressed": "false" }, el("strong", {}, preset.title), el("span", {}, preset.summary));
    button.addEventListener("click", () => this.chosen(preset));
    return button;
  }

  show(slug) {
    for (const button of byId("preset-cards").children) button.setAttribute("aria-pressed", String(button.dataset.slug === slug));
    const preset = this.presets.find((each) => each.slug === slug);
    say(byId("preset-name"), preset ? preset.title : slug ? slug : "your own");
  }
}
