// An upload: dropped or chosen, sent with its progress shown, then read by the server.

import { clearErrors, csrf, refusal, showErrors } from "../ask.js";
import { bytes } from "../format.js";
import { say } from "../run/dom.js";

const form = document.getElementById("upload");
if (form) begin();

function begin() {
  const file = form.elements.file;
  const drop = form.querySelector(".drop");
  const optional = [...form.querySelectorAll("[data-formats]")];
  const rest = document.getElementById("upload-error");
  const going = document.getElementById("going");
  const bar = document.getElementById("sent");
  const doing = document.getElementById("doing");
  const button = form.querySelector("[type=submit]");
  let request = null;

  // ------------------------------------------------------------ the file

  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("is-over");
    });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("is-over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    file.files = event.dataTransfer.files;
    file.dispatchEvent(new Event("change", { bubbles: true }));
  });

  file.addEventListener("change", () => {
    const [chosen] = file.files;
    if (!chosen) return;
    say(document.getElementById("file-name"), chosen.name);
    say(document.getElementById("file-about"), bytes(chosen.size));
    if (!form.elements.name.value) form.elements.name.value = nameOf(chosen.name);
    offer();
  });

  // What may be said about a file depends on what it is.
  function offer() {
    const format = form.elements.format.value === "auto" ? guess(file.files[0]?.name ?? "") : form.elements.format.value;
    for (const part of optional) part.hidden = !part.dataset.formats.split(" ").includes(format);
  }
  form.elements.format.addEventListener("change", offer);

  // ------------------------------------------------------------ on its way

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (request) return;
    clearErrors(form, rest);
    const missing = new Map();
    if (!file.files.length) missing.set("file", "choose one");
    else if (file.files[0].size > Number(form.dataset.most)) missing.set("file", `has ${bytes(file.files[0].size)}; ${bytes(Number(form.dataset.most))} at most`);
    if (!form.elements.name.value.trim()) missing.set("name", "give it one");
    if (missing.size) showErrors(form, rest, { fields: missing });
    else upload();
  });

  function upload() {
    const body = new FormData();
    // Small things first, so that the server knows what comes before it comes.
    for (const name of ["name", "project", "format"]) body.append(name, form.elements[name].value.trim());
    const options = optionsGiven();
    if (Object.keys(options).length) body.append("options", JSON.stringify(options));
    body.append("file", file.files[0]);
    request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("X-CSRFToken", csrf());
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      bar.value = event.loaded / event.total;
      say(doing, `${bytes(event.loaded)} of ${bytes(event.total)} sent`);
    });
    request.upload.addEventListener("load", () => {
      bar.removeAttribute("value"); // nobody knows how long
      say(doing, "Reading the data…");
    });
    request.addEventListener("load", () => done());
    request.addEventListener("error", () => over({ message: "The connection broke. Nothing was kept; try again." }));
    request.addEventListener("abort", () => over(null));
    show(true);
    say(doing, "Sending…");
    request.send(body);
  }

  function done() {
    const answer = parsed(request.responseText);
    if (request.status === 201 && answer?.id) location.assign(`/datasets/${answer.id}/`);
    else over(refusal(request.status, answer));
  }

  function over(error) {
    request = null;
    show(false);
    if (error) showErrors(form, rest, error);
  }

  function show(busy) {
    going.hidden = !busy;
    button.hidden = busy;
    bar.value = 0;
    for (const input of form.querySelectorAll("input, select")) input.disabled = busy;
  }

  document.getElementById("stop").addEventListener("click", () => request?.abort());
  addEventListener("beforeunload", (event) => {
    if (request && request.readyState !== XMLHttpRequest.DONE) event.preventDefault();
  });

  function optionsGiven() {
    const given = {};
    for (const part of optional) {
      if (part.hidden) continue;
      for (const input of part.querySelectorAll("[data-option]")) {
        if (input.value) given[input.dataset.option] = input.type === "number" ? Number(input.value) : input.value;
      }
    }
    return given;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function guess(name) {
  if (/\.csv$/i.test(name)) return "csv";
  if (/\.parquet$/i.test(name)) return "parquet";
  if (/\.(zip|tar|tar\.gz|tgz)$/i.test(name)) return "image-folder";
  return "";
}

// A file's name without its endings, of characters that a data set's name may have.
function nameOf(fileName) {
  return fileName.replace(/(\.[a-z0-9]{1,8}){1,2}$/i, "").replace(/[^\w.-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 80);
}
