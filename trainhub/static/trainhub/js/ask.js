// What every page that changes something needs: a request with its token, and a question before what can't be undone.

// Send, and return the answer's data. Throws an Error with `fields`: field → what is wrong with it.
export async function send(method, address, body) {
  const headers = { "X-CSRFToken": csrf(), Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer. Try again in a moment.");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw refusal(response.status, answer);
  return answer;
}

export function csrf() {
  return document.querySelector("[name=csrfmiddlewaretoken]").value;
}

export function refusal(status, problem) {
  const error = new Error(problem?.detail ?? problem?.title ?? `The server answered ${status}.`);
  error.fields = new Map((problem?.errors ?? []).map((each) => [each.field, each.message]));
  return error;
}

// Show what is wrong beside the fields of a form, and what belongs to none of them in `rest`.
export function showErrors(form, rest, error) {
  clearErrors(form, rest);
  const unplaced = [];
  let first = null;
  for (const [field, message] of error.fields ?? []) {
    const place = form.querySelector(`[data-error="${CSS.escape(field)}"]`);
    if (!place) {
      unplaced.push(`${field}: ${message}`);
      continue;
    }
    place.textContent = message;
    place.hidden = false;
    const input = form.querySelector(`[aria-describedby~="${CSS.escape(place.id)}"]`);
    input?.setAttribute("aria-invalid", "true");
    first ??= input;
  }
  if (!first || unplaced.length) {
    rest.textContent = unplaced.join("; ") || error.message;
    rest.hidden = false;
  }
  first?.focus();
}

export function clearErrors(form, rest) {
  rest.hidden = true;
  for (const place of form.querySelectorAll("[data-error]")) place.hidden = true;
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

// Ask in the page's dialog. Resolves to whether the answer was yes; the safe answer has the focus.
export function confirmed(title, text, yes, no = "Keep it", danger = true) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("p").textContent = text;
  const [keep, go] = dialog.querySelectorAll("button");
  keep.textContent = no;
  go.textContent = yes;
  go.classList.toggle("danger", danger);
  dialog.returnValue = "no";
  dialog.showModal();
  keep.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// A button that copies: data-copy names the element whose text it takes.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source); // a browser that lets nobody write to its clipboard
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = said; }, 2000);
});
