// unfold opens its menus by elements that only a mouse reaches, and has no landmarks. Here keyboards and screen readers
// get them. A plain script in the head, so that it is through before the page's own scripts begin.
(() => {
  const NAMES = { dock_to_right: "Side bar", contrast: "Colours", computer: "Colours", light_mode: "Colours", dark_mode: "Colours" };
  const REACHED = "a[href], button, input, select, summary, #changelist-filter-close";

  function makeButton(element) {
    const icon = element.textContent.trim();
    element.tabIndex = 0;
    element.setAttribute("role", "button");
    if (icon in NAMES) {
      element.setAttribute("aria-label", NAMES[icon]);
    }
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        element.click();
      }
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const element of document.querySelectorAll("[x-on\\:click]")) {
      if (!element.matches(REACHED)) {
        makeButton(element);
      }
    }
    for (const region of document.querySelectorAll("[data-simplebar]")) {
      region.dataset.simplebarAriaLabel = region.closest("#changelist-filter") ? "Filters" : "Pages";
    }
    (document.getElementById("main") ?? document.getElementById("page"))?.setAttribute("role", "main");
  });
})();
