// One choice of colours for the admin and all other pages. A plain script in the head: it runs before Alpine reads the choice.
(() => {
  const OURS = "trainhub-theme";
  const UNFOLDS = "adminTheme"; // Alpine keeps JSON there
  const choices = ["auto", "light", "dark"];

  function take() {
    const kept = localStorage.getItem(OURS);
    if (choices.includes(kept)) {
      localStorage.setItem(UNFOLDS, JSON.stringify(kept));
    }
  }

  function give() {
    const kept = JSON.parse(localStorage.getItem(UNFOLDS) ?? '""');
    if (choices.includes(kept)) {
      localStorage.setItem(OURS, kept);
    }
  }

  try {
    take();
    addEventListener("pagehide", give);
  } catch {
    // a browser without storage: each page keeps to the system's colours
  }
})();
