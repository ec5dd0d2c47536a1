// The summary of what is wrong and has no field in sight, and the notices above the form.

import { byId, el, say } from "../run/dom.js";

export function showProblems(errors, { go, title }) {
  const place = byId("problems");
  place.hidden = errors.length === 0;
  say(byId("problems-title"), title);
  byId("problems-list").replaceChildren(...errors.map((error) => el("li", {}, ...words(error, go))));
}

function words({ field, message, go: path }, go) {
  if (!path) return [field ? `${field}: ${message}` : message];
  const link = el("a", { href: `#f-${path.replaceAll(".", "-")}` }, field);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    go(path);
  });
  return [link, `: ${message}`];
}

// A line above the form with something to do about it.
export function notice(text, button = "", act = null) {
  const place = byId("notice");
  say(byId("notice-text"), text);
  const action = byId("notice-action");
  action.hidden = !button;
  say(action, button);
  action.onclick = () => {
    place.hidden = true;
    act?.();
  };
  place.hidden = text === "";
}
