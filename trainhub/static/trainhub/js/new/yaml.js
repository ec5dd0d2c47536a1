// The spec as YAML: its tab, its file, and a writer for specs that are not valid yet.

import { byId, say } from "../run/dom.js";

const MOST_BYTES = 256 * 1024;
const PLAIN = /^[A-Za-z_][\w ,.+()/-]*$/;
const WORDS = /^(true|false|null|yes|no|on|off|nan|inf|y|n|~)$/i;

// A spec as YAML. Valid specs are written by the server; this one writes those that are still wrong somewhere.
export function write(value, indent = "") {
  return Object.entries(value).map(([name, each]) => `${indent}${scalar(name)}:${after(each, indent)}\n`).join("");
}

function after(value, indent) {
  if (Array.isArray(value) && value.some((item) => typeof item === "object" && item !== null)) {
    return value.map((item) => `\n${indent}  - ${flow(item)}`).join("");
  }
  if (value !== null && typeof value === "object" && !Array.isArray(value) && Object.values(value).some((v) => v !== null && typeof v === "object")) {
    return `\n${write(value, `${indent}  `).trimEnd()}`;
  }
  return ` ${flow(value)}`;
}

function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (value === null || typeof value !== "object") return scalar(value);
  return `{${Object.entries(value).map(([name, each]) => `${scalar(name)}: ${flow(each)}`).join(", ")}}`;
}

function scalar(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  const plain = PLAIN.test(value) && !WORDS.test(value) && !value.endsWith(" ") && !value.includes(",");
  return plain ? value : JSON.stringify(value);
}

export class YamlTab {
  constructor(draft, { edited }) {
    this.draft = draft;
    this.text = byId("yaml-text");
    this.error = byId("yaml-error");
    this.text.addEventListener("input", () => edited(this.text.value));
    byId("yaml-file").addEventListener("change", (event) => this.read(event.target, edited));
    byId("yaml-download").addEventListener("click", () => this.download());
  }

  // What the form says, as long as the text is not being written by hand.
  show(fromServer) {
    const text = this.draft.yaml ?? fromServer ?? write(this.draft.spec);
    if (this.text.value !== text) this.text.value = text;
  }

  showErrors(errors) {
    byId("yaml-errors").replaceChildren(...errors.map((error) => this.item(error)));
    this.error.hidden = errors.length === 0;
    if (errors.length) this.text.setAttribute("aria-invalid", "true");
    else this.text.removeAttribute("aria-invalid");
  }

  item({ field, message }) {
    const item = document.createElement("li");
    const text = field ? `${field}: ${message}` : message;
    const place = /line (\d+), column (\d+)/.exec(text);
    if (!place) {
      item.textContent = text;
      return item;
    }
    const link = document.createElement("a");
    link.href = "#yaml-text";
    link.textContent = place[0];
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this.select(Number(place[1]));
    });
    item.append(text.slice(0, place.index), link, text.slice(place.index + place[0].length));
    return item;
  }

  select(line) {
    const lines = this.text.value.split("\n");
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    this.text.focus();
    this.text.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  }

  async read(input, edited) {
    const [file] = input.files;
    input.value = ""; // the same file may be chosen again
    if (!file) return;
    const problem = byId("yaml-file-error");
    const tooLarge = file.size > MOST_BYTES;
    problem.hidden = !tooLarge;
    if (tooLarge) {
      say(problem, `${file.name} has ${Math.ceil(file.size / 1024)} KiB; a spec may have 256 KiB at most.`);
      return;
    }
    this.text.value = await file.text();
    edited(this.text.value);
    this.text.focus();
  }

  download() {
    const name = String(this.draft.spec.name ?? "spec").replace(/[^\w-]+/g, "-").replace(/^-|-$/g, "").toLowerCase();
    const address = URL.createObjectURL(new Blob([this.text.value], { type: "application/yaml" }));
    const link = Object.assign(document.createElement("a"), { href: address, download: `${name || "spec"}.yaml` });
    link.click();
    URL.revokeObjectURL(address);
  }
}
