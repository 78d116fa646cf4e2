// Comforts on top of pages that work without any of this: copy buttons, local times, a table that refreshes itself.
(function () {
  "use strict";

  async function copyText(source) {
    const text = source.textContent;
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return;
    }
    // Plain http on a LAN address has no clipboard API; a selection still copies.
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    document.execCommand("copy");
  }

  function prepareCopy(button) {
    button.hidden = false;
    const label = button.querySelector("[data-copy-text]");
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await copyText(source);
        button.classList.add("is-done");
        if (label) label.textContent = "Copied";
        window.setTimeout(() => {
          button.classList.remove("is-done");
          if (label) label.textContent = "Copy";
        }, 1600);
      } catch (refused) {
        if (label) label.textContent = "Press Ctrl+C";
      }
    });
  }

  function prepareReveal(button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const field = document.getElementById(button.dataset.reveal);
      const shown = field.type === "text";
      field.type = shown ? "password" : "text";
      button.setAttribute("aria-pressed", String(!shown));
    });
  }

  function localTimes(scope) {
    const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const today = new Date().toDateString();
    for (const element of scope.querySelectorAll("time[datetime]")) {
      const moment = new Date(element.getAttribute("datetime"));
      if (!Number.isNaN(moment.valueOf())) {
        element.textContent = (moment.toDateString() === today ? clock : day).format(moment);
      }
    }
  }

  function prepareRefresh(area) {
    const panel = area.closest("section");
    const control = panel.querySelector("[data-live-switch]");
    const box = control.querySelector("input");
    control.hidden = false;
    let tag = null;
    const seconds = Number(document.documentElement.dataset.refreshS || 10);

    async function refresh() {
      if (document.hidden || !box.checked || area.contains(document.activeElement)) return;
      try {
        const answer = await fetch(area.dataset.refresh, {
          headers: tag ? { "If-None-Match": tag } : {},
          credentials: "same-origin",
          redirect: "error",
          cache: "no-store",
        });
        control.classList.toggle("is-lost", !answer.ok && answer.status !== 304);
        if (answer.status !== 200) return;
        tag = answer.headers.get("ETag");
        area.innerHTML = await answer.text();
        localTimes(area);
      } catch (lost) {
        control.classList.add("is-lost");
      }
    }

    if (seconds > 0) window.setInterval(refresh, seconds * 1000);
  }

  for (const button of document.querySelectorAll("[data-copy]")) prepareCopy(button);
  for (const button of document.querySelectorAll("[data-reveal]")) prepareReveal(button);
  for (const area of document.querySelectorAll("[data-refresh]")) prepareRefresh(area);
  localTimes(document);
})();
