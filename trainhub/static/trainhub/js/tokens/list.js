// A person's tokens: made, told once, revoked.

import { clearErrors, confirmed, send, showErrors } from "../ask.js";

const api = document.getElementById("tokens").dataset.api;
const form = document.getElementById("new");
const rest = document.getElementById("new-error");
const failed = document.getElementById("failed");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = new FormData(form);
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const made = await send("POST", api, {
      name: given.get("name"),
      days: Number(given.get("days")),
      scopes: given.get("scopes").split(","),
    });
    show(made);
  } catch (error) {
    showErrors(form, rest, error);
  } finally {
    button.disabled = false;
  }
});

function show(made) {
  clearErrors(form, rest);
  form.hidden = true;
  const place = document.getElementById("made");
  document.getElementById("secret").textContent = made.secret ?? made.token;
  place.hidden = false;
  place.focus();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-revoke]");
  if (!button) return;
  const { revoke, name } = button.dataset;
  const text = "Whatever uses it is signed out at once. A revoked token does not come back.";
  if (!(await confirmed(`Revoke ${name}?`, text, "Revoke it"))) return;
  failed.hidden = true;
  try {
    await send("DELETE", `${api}/${revoke}`);
    location.reload();
  } catch (error) {
    failed.textContent = `Could not revoke ${name}: ${error.message}`;
    failed.hidden = false;
  }
});
