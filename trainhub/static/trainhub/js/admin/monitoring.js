// Reads the board again every few seconds and puts in what has changed, part by part, so that nothing else moves.

const SECONDS = 5;
const board = document.querySelector("[data-board]");
const status = document.querySelector("[data-board-status]");
const pause = document.querySelector("[data-board-pause]");
let paused = false;

async function read() {
  const answer = await fetch(board.dataset.board, { headers: { "X-TrainHub-Part": "board" }, redirect: "error" });
  if (!answer.ok) {
    throw new Error(`answered ${answer.status}`);
  }
  const fresh = document.createElement("template");
  fresh.innerHTML = await answer.text();
  for (const part of fresh.content.querySelectorAll("[data-part]")) {
    put(part);
  }
  say("");
}

function put(part) {
  const shown = board.querySelector(`[data-part="${part.dataset.part}"]`);
  // Whoever reads a part by keyboard keeps his place in it.
  if (shown && shown.innerHTML !== part.innerHTML && !shown.contains(document.activeElement)) {
    shown.innerHTML = part.innerHTML;
  }
}

function say(text) {
  if (status.textContent !== text) {
    status.textContent = text;
  }
}

async function turn() {
  if (!paused && document.visibilityState === "visible") {
    try {
      await read();
    } catch {
      say("Not reached: these numbers are old. Trying again.");
    }
  }
  setTimeout(turn, SECONDS * 1000);
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on updating" : "Pause updating";
  say(paused ? "Paused: these numbers stand still." : "");
});

setTimeout(turn, SECONDS * 1000);
