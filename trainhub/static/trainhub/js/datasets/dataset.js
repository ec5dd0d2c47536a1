// One data set: deleted when nobody needs it.

import { confirmed, send } from "../ask.js";

const page = document.getElementById("dataset");
const failed = document.getElementById("failed");

document.getElementById("delete")?.addEventListener("click", async () => {
  const { name, api, list } = page.dataset;
  const text = "Its files are removed. Runs that have trained on it keep their results, but can't be started again.";
  if (!(await confirmed(`Delete ${name}?`, text, "Delete it"))) return;
  failed.hidden = true;
  try {
    await send("DELETE", api);
    location.assign(list);
  } catch (error) {
    failed.textContent = `Could not delete ${name}: ${error.message}`;
    failed.hidden = false;
  }
});
