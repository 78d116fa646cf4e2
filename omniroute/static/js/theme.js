// Apply the stored theme before the first paint, and keep the switch in step. "system" stores nothing.
(function () {
  "use strict";
  const root = document.documentElement;
  const NAME = "omniroute.theme";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function stored() {
    try {
      return window.localStorage.getItem(NAME) || "system";
    } catch (blocked) {
      return "system";
    }
  }

  function apply(choice) {
    const theme = choice === "system" ? (dark.matches ? "dark" : "light") : choice;
    root.setAttribute("data-bs-theme", theme);
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
    }
  }

  apply(stored());
  dark.addEventListener("change", () => apply(stored()));

  document.addEventListener("DOMContentLoaded", () => {
    for (const group of document.querySelectorAll("[data-theme-switch]")) {
      group.hidden = false;
      group.addEventListener("click", (event) => {
        const button = event.target.closest("[data-theme-choice]");
        if (!button) return;
        try {
          if (button.dataset.themeChoice === "system") window.localStorage.removeItem(NAME);
          else window.localStorage.setItem(NAME, button.dataset.themeChoice);
        } catch (blocked) {
          // Without storage the choice lasts for this page.
        }
        apply(button.dataset.themeChoice);
      });
    }
    apply(stored());
  });
})();
