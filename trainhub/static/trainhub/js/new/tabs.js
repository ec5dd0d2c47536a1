// Form and YAML: two tabs, one draft.

import { byId } from "../run/dom.js";

const NAMES = ["form", "yaml"];

export class Tabs {
  constructor(opened) {
    this.opened = opened;
    this.current = "form";
    NAMES.forEach((name, index) => {
      const tab = byId(`tab-${name}`);
      tab.addEventListener("click", () => this.open(name));
      tab.addEventListener("keydown", (event) => {
        if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
        this.open(NAMES[1 - index]);
        byId(`tab-${NAMES[1 - index]}`).focus();
      });
    });
  }

  open(name) {
    this.current = name;
    for (const each of NAMES) {
      const chosen = each === name;
      byId(`tab-${each}`).setAttribute("aria-selected", String(chosen));
      byId(`tab-${each}`).tabIndex = chosen ? 0 : -1;
      byId(`panel-${each}`).hidden = !chosen;
    }
    this.opened(name);
  }
}
