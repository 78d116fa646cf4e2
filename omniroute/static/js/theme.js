// Apply the stored theme before the first paint, and keep the switch in step. Who has not chosen gets the server's.
(function () {
  "use strict";
  const root = document.documentElement;
  const NAME = "omniroute.theme";
  const usual = root.dataset.theme || "system";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function stored() {
    try {
      return window.localStorage.getItem(NAME) || usual;
    } catch (blocked) {
      return usual;
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
          window.localStorage.setItem(NAME, button.dataset.themeChoice);
        } catch (blocked) {
          // Without storage the choice lasts for this page.
        }
        apply(button.dataset.themeChoice);
      });
    }
    apply(stored());
  });
})();
