// The page of a new experiment: a draft, its two views, and what the server says of it.

import { byId, say } from "../run/dom.js";
import { Check, post } from "./check.js";
import { Datasets } from "./datasets.js";
import { Form } from "./form.js";
import { Grid, gridOf, seedsOf } from "./grid.js";
import { Plan } from "./plan.js";
import { Presets } from "./presets.js";
import { notice, showProblems } from "./problems.js";
import { showWords } from "./side.js";
import { Draft, equal, prune } from "./state.js";
import { forget, keep, kept } from "./store.js";
import { Submit } from "./submit.js";
import { Tabs } from "./tabs.js";
import { YamlTab } from "./yaml.js";

const data = (id) => JSON.parse(byId(id).textContent);

class Page {
  constructor() {
    this.sections = data("sections");
    this.begun = data("begun");
    this.draft = new Draft(this.sections.flatMap((section) => [...section.fields, ...section.more]), this.begun);
    this.first = this.draft.saved();
    this.datasets = new Datasets();
    this.form = new Form(this.sections, this.draft, this.datasets);
    this.grid = new Grid(this.form);
    this.yaml = new YamlTab(this.draft, { edited: (text) => this.written(text) });
    this.presets = new Presets(data("presets"), { chosen: (preset) => this.begin(preset) });
    this.tabs = new Tabs((name) => this.opened(name));
    this.check = new Check({ body: () => this.body(), answered: (answer) => this.answered(answer), lost: (text) => this.lost(text) });
    this.submit = new Submit(this.draft, {
      body: () => this.body(),
      save: () => this.save(),
      done: (made) => this.leave(made),
      refused: (errors) => this.refused(errors),
    });
    this.plan = new Plan(() => this.body());
    this.errors = [];
    this.answer = null;
    this.listen();
    this.restore();
  }

  listen() {
    this.draft.subscribe(() => this.changed());
    byId("submit").addEventListener("click", () => this.send());
    byId("discard").addEventListener("click", () => this.discard());
    byId("yaml-drop").addEventListener("click", () => this.dropYaml());
    byId("project").addEventListener("change", (event) => {
      this.draft.project = event.target.value;
      this.datasets.load(this.draft.project);
      this.draft.tell();
    });
    // Coming back by the browser's Back, the page is as it was when the draft was sent.
    addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  restore() {
    const before = kept();
    if (before && !equal(before, this.first)) {
      this.draft.load(before);
      notice("Your draft is as you left it.");
    }
    this.draw();
  }

  // Everything anew, after the draft became another one.
  draw() {
    const project = byId("project");
    const offered = [...project.options ?? []].some((option) => option.value === this.draft.project);
    if (project.options) project.value = offered ? this.draft.project : project.options[0].value;
    this.draft.project = project.value;
    this.datasets.load(this.draft.project);
    this.form.draw(this.begun.unfolded);
    this.grid.draw();
    this.grid.showFields();
    this.yaml.show();
    this.presets.show(this.draft.from);
    this.tabs.open(this.draft.yaml === null ? this.tabs.current : "yaml");
    this.save();
    this.check.now();
  }

  changed() {
    this.form.marked();
    this.save();
    this.check.soon();
  }

  save() {
    const now = this.draft.saved();
    const own = !equal({ ...now, key: null, project: null }, { ...this.first, key: null, project: null });
    byId("discard").hidden = !own;
    if (own || now.key) keep(now);
    else forget();
  }

  discard() {
    forget();
    this.load(this.first, "Draft discarded.");
  }

  begin(preset) {
    const { project } = this.draft;
    this.load({ spec: preset.spec, from: preset.slug, project }, `Started from “${preset.title}”.`);
    byId("start-from").open = false;
  }

  // Another draft in place of this one, which Undo brings back.
  load(draft, text) {
    const before = this.draft.saved();
    this.draft.load(draft);
    this.draw();
    notice(text, "Undo", () => {
      this.draft.load(before);
      this.draw();
    });
  }

  body() {
    const { project, spec, yaml } = this.draft;
    const seeds = seedsOf(this.draft.seeds, this.seed());
    return { ...(project ? { project } : {}), ...(yaml === null ? { spec } : { yaml }), seeds, grid: gridOf(this.draft.grid) };
  }

  seed() {
    const seed = this.answer?.spec?.seed ?? this.draft.spec.seed;
    return Number.isInteger(seed) ? seed : 0;
  }

  written(text) {
    this.draft.yaml = text;
    this.draft.tell();
  }

  dropYaml() {
    this.draft.yaml = null;
    this.draw();
  }

  async opened(name) {
    if (name === "form" && this.draft.yaml !== null) {
      await this.check.now();
      if (!this.readable()) await this.readAlone();
      this.takeOver();
    }
    if (name === "yaml") this.yaml.show(this.answer?.yaml);
    this.showErrors();
  }

  readable() {
    return this.draft.yaml !== null && this.answer?.of === this.draft.yaml && Boolean(this.answer.spec);
  }

  // The spec by itself: seeds or a grid that are wrong don't keep it out of the form.
  async readAlone() {
    const { yaml } = this.draft;
    try {
      const { spec } = await (await post("/api/v1/specs/check", { yaml })).json();
      if (!spec || yaml !== this.draft.yaml) return;
      this.draft.spec = prune(this.draft.node, spec);
      this.answer = { ...this.answer, spec, of: yaml };
    } catch {
      // it stays text until the server is back
    }
  }

  // YAML that can be read becomes the form; what can't stays text until it is mended or dropped.
  takeOver() {
    if (this.readable()) {
      this.draft.yaml = null;
      this.form.draw();
      this.save();
    }
    const stale = this.draft.yaml !== null;
    byId("stale").hidden = !stale;
    byId("fields").inert = stale;
  }

  answered(answer) {
    const { yaml } = this.draft;
    this.answer = { ...answer, of: yaml };
    if (yaml !== null && answer.spec) this.draft.spec = prune(this.draft.node, answer.spec);
    if (yaml === null) this.yaml.show(answer.yaml);
    this.errors = answer.errors;
    byId("unchecked").hidden = true;
    this.takeOverIfOpen();
    this.grid.showFields();
    this.showErrors();
    showWords(answer);
    if (answer.spec) this.plan.show(answer.spec);
    this.submit.label(answer.runs, answer.spec?.execution?.kind === "simulate");
    document.body.dataset.checked = String(Number(document.body.dataset.checked ?? 0) + 1);
  }

  takeOverIfOpen() {
    if (this.tabs.current === "form") this.takeOver();
    else byId("stale").hidden = true;
  }

  lost(text) {
    byId("unchecked").hidden = false;
    byId("unchecked").textContent = text;
  }

  // Each error beside its field; those without a field in sight above.
  showErrors({ all = false } = {}) {
    const written = this.draft.yaml !== null;
    const rest = this.grid.showErrors(this.errors);
    this.yaml.showErrors(written ? rest : []);
    const hidden = this.form.showErrors(written ? [] : rest);
    const elsewhere = written ? [] : hidden;
    const shown = all && !written ? rest.map((error) => ({ ...error, go: this.form.rowOf(error.field) })) : elsewhere;
    const tally = this.errors.length === 1 ? "1 error" : `${this.errors.length} errors`;
    say(byId("tally"), this.errors.length ? tally : "No errors");
    const title = this.errors.length === 1 ? "One thing is still wrong" : `${this.errors.length} things are still wrong`;
    showProblems(this.tabs.current === "form" ? shown : [], { go: (path) => this.form.go(path), title });
  }

  async send() {
    if (this.submit.sending || this.asking) return;
    this.asking = true;
    await this.check.now();
    this.asking = false;
    this.errors = [...(this.answer?.errors ?? []), ...this.grid.problems()];
    if (this.errors.length) this.refused(this.errors);
    else await this.submit.send();
  }

  refused(errors) {
    this.errors = errors;
    this.showErrors({ all: true });
    const wrong = document.querySelector("#panel-yaml:not([hidden]) [aria-invalid], #grid [aria-invalid]");
    if (!byId("problems").hidden) byId("problems").focus();
    else wrong?.focus();
  }

  leave(made) {
    forget();
    const [run, ...others] = made.runs;
    location.assign(others.length ? `/experiments/${made.id}/` : `/runs/${run.id}/`);
  }
}

new Page();
document.body.dataset.ready = "yes";
