// Runs before the page is drawn, so that it never flashes in the wrong colours. A plain script: modules come too late.
(() => {
  const KEY = "trainhub-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const choices = ["auto", "light", "dark"];

  function chosen() {
    try {
      const kept = localStorage.getItem(KEY);
      return choices.includes(kept) ? kept : "auto";
    } catch {
      return "auto"; // a browser without storage
    }
  }

  let choice = chosen();

  function show() {
    const theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
    const root = document.documentElement;
    const before = root.dataset.theme;
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.textContent = `Theme: ${choice}`;
    }
    if (before && before !== theme) {
      document.dispatchEvent(new CustomEvent("themechange"));
    }
  }

  function next() {
    choice = choices[(choices.indexOf(choice) + 1) % choices.length];
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // it holds until the page is left
    }
    show();
  }

  show();
  dark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.addEventListener("click", next);
    }
    show();
  });
})();
