// Comforts on top of pages that work without any of this: copying, local times, blocks that refresh themselves,
// confirmation, toasts, a watch over the connection. What few pages need is loaded by those pages alone.

const root = document.documentElement;
const texts = JSON.parse(document.getElementById("page-texts")?.textContent || "{}");
const VERSION = new URL(import.meta.url).search;

function say(name, values = {}) {
  return Object.entries(values).reduce((text, [key, value]) => text.replaceAll(`{${key}}`, value), texts[name] || name);
}

function token() {
  return document.querySelector('input[name="csrf_token"]')?.value || "";
}

function load(name) {
  return import(new URL(name + VERSION, import.meta.url));
}

// Modules that are loaded later find these here: an import by name would lack the version of the address, and so load
// this module a second time.
window.omniroute = { say, token, toast, ask, load, prepare };

// --- copying, revealing --------------------------------------------------------------------------------------------

async function copyText(source) {
  const text = "value" in source ? source.value : source.textContent;
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
  if (!document.execCommand("copy")) throw new Error("not copied");
}

async function copy(button) {
  const label = button.querySelector("[data-copy-text]");
  const usual = (button.dataset.usual ||= label?.textContent || "");
  try {
    await copyText(document.getElementById(button.dataset.copy));
    button.classList.add("is-done");
    if (label) label.textContent = say("copied");
    if (label?.classList.contains("visually-hidden")) toast(say("copied"));
  } catch (refused) {
    toast(say("copy_by_hand"), "warning");
  }
  window.setTimeout(() => {
    button.classList.remove("is-done");
    if (label) label.textContent = usual;
  }, 1600);
}

function reveal(button) {
  const field = document.getElementById(button.dataset.reveal);
  const isShown = field.type === "text";
  field.type = isShown ? "password" : "text";
  button.setAttribute("aria-pressed", String(!isShown));
}

document.addEventListener("click", (event) => {
  const found = (name) => event.target.closest?.(`[data-${name}]`);
  const copied = found("copy");
  if (copied) copy(copied);
  const revealed = found("reveal");
  if (revealed) reveal(revealed);
  const unblurred = found("unblur");
  if (unblurred) unblurred.classList.toggle("is-shown");
  for (const popup of document.querySelectorAll("details[data-popup][open]")) {
    if (!popup.contains(event.target)) popup.open = false;
  }
});

// --- times ---------------------------------------------------------------------------------------------------------

const language = root.lang || undefined;
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function ago(seconds) {
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) || ["second", 1];
  return relative.format(Math.trunc(seconds / size), unit);
}

const [HOURS, MINUTES, SECONDS] = ["hour", "minute", "second"].map(
  (unit) => new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "narrow" }),
);

// Two units, and days alone: 1h 56m, 40m 4s, in 2 days.
function left(seconds) {
  if (seconds <= 0) return say("now");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  if (hours >= 48) return ago(seconds);
  if (hours) return `${HOURS.format(hours)} ${MINUTES.format(minutes)}`;
  const rest = SECONDS.format(Math.floor(seconds % 60));
  return minutes ? `${MINUTES.format(minutes)} ${rest}` : rest;
}

function showTime(element, now) {
  const moment = new Date(element.getAttribute("datetime"));
  if (Number.isNaN(moment.valueOf())) return;
  if (!element.dataset.exact) {
    element.dataset.exact = "yes";
    element.title = `${exact.format(moment)} · ${element.getAttribute("datetime")}`;
  }
  let text;
  if ("ago" in element.dataset) text = ago((moment - now) / 1000);
  else if ("until" in element.dataset) text = left((moment - now) / 1000);
  else text = (moment.toDateString() === now.toDateString() ? clock : day).format(moment);
  if (element.textContent !== text) element.textContent = text;
}

function showTimes(scope = document) {
  const now = new Date();
  for (const element of scope.querySelectorAll("time[datetime]")) showTime(element, now);
}

window.setInterval(() => {
  if (document.hidden) return;
  const now = new Date();
  for (const element of document.querySelectorAll("time[data-until], time[data-ago]")) showTime(element, now);
}, 1000);

// --- toasts --------------------------------------------------------------------------------------------------------

function toast(text, category = "success", { seconds = 5, action } = {}) {
  let area = document.querySelector(".toasts");
  if (!area) {
    area = document.createElement("div");
    area.className = "toasts";
    area.setAttribute("role", "status");
    area.setAttribute("aria-live", "polite");
    document.body.append(area);
  }
  const note = document.createElement("div");
  note.className = `notice notice-${category}`;
  const words = document.createElement("p");
  words.textContent = text;
  note.append(words);
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-outline";
    button.textContent = action.label;
    button.addEventListener("click", () => { note.remove(); action.run(); });
    note.append(button);
  }
  const close = document.createElement("button");
  close.type = "button";
  close.className = "notice-close";
  close.setAttribute("aria-label", say("dismiss"));
  close.textContent = "×";
  close.addEventListener("click", () => note.remove());
  note.append(close);
  area.append(note);
  if (category !== "danger") window.setTimeout(() => note.remove(), seconds * 1000);
  return note;
}

function prepareFlashes() {
  for (const note of document.querySelectorAll("[data-flash]")) {
    const close = document.createElement("button");
    close.type = "button";
    close.className = "notice-close";
    close.setAttribute("aria-label", say("dismiss"));
    close.textContent = "×";
    close.addEventListener("click", () => note.remove());
    note.append(close);
  }
}

// --- questions before what cannot be undone ------------------------------------------------------------------------

function ask(question, { name = "", action = say("confirm") } = {}) {
  return new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "question");
    dialog.innerHTML = '<form method="dialog" class="dialog-body"><h2 id="question"></h2><div class="dialog-actions"><button class="btn btn-outline" value="no" type="submit"></button><button class="btn btn-danger" value="yes" type="submit"></button></div></form>';
    dialog.querySelector("h2").textContent = question;
    const [no, yes] = dialog.querySelectorAll("button");
    no.textContent = say("cancel");
    yes.textContent = action;
    if (name) {
      const label = document.createElement("label");
      label.textContent = say("type_name", { name });
      const field = document.createElement("input");
      field.className = "form-control";
      field.autocomplete = "off";
      label.append(field);
      dialog.querySelector("h2").after(label);
      yes.disabled = true;
      field.addEventListener("input", () => { yes.disabled = field.value !== name; });
    }
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("input") || no).focus();
  });
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const asked = event.submitter?.dataset.confirm || form.dataset.confirm;
  if (asked && form.dataset.confirmed !== "yes") {
    event.preventDefault();
    event.stopImmediatePropagation();
    const isSure = await ask(asked, { name: form.dataset.confirmName || "", action: event.submitter?.textContent.trim() || say("confirm") });
    if (!isSure) { event.submitter?.focus(); return; }
    form.dataset.confirmed = "yes";
    form.requestSubmit(event.submitter);
    delete form.dataset.confirmed;
    return;
  }
  if (form.method === "post" && !form.matches("[hx-post], [data-stay]")) {
    form.classList.add("is-busy");
    form.setAttribute("aria-busy", "true");
  }
}, true);

window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form.is-busy")) form.classList.remove("is-busy");
});

document.addEventListener("change", (event) => {
  const form = event.target.closest?.("[data-submit-on-change]");
  if (form) form.requestSubmit();
});

// --- blocks that refresh themselves --------------------------------------------------------------------------------

// <div id="cards" hx-get="…" hx-trigger="refresh" data-every="10">: seconds, or "page" for what the operator has chosen.
const lastShown = new WeakMap();
const paused = new WeakSet();

function seconds(element) {
  const wanted = element.dataset.every;
  return wanted === "page" ? Number(root.dataset.refreshS || 10) : Number(wanted);
}

function holdsWork(element) {
  const active = document.activeElement;
  const isTyping = element.contains(active) && active.matches("input, textarea, select");
  return isTyping || element.querySelector("details[data-popup][open], dialog[open], .is-dragged") !== null;
}

function preparePolls(scope) {
  for (const element of scope.querySelectorAll("[data-every]")) {
    const every = seconds(element);
    if (!every || element.dataset.polls) continue;
    element.dataset.polls = "yes";
    const timer = window.setInterval(() => {
      if (!element.isConnected) { window.clearInterval(timer); return; }
      if (!document.hidden && !paused.has(element) && !holdsWork(element)) window.htmx?.trigger(element, "refresh");
    }, every * 1000);
  }
  for (const button of scope.querySelectorAll("[data-pause]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const element = document.getElementById(button.dataset.pause);
      const isPaused = !paused.has(element);
      if (isPaused) paused.add(element); else paused.delete(element);
      button.setAttribute("aria-pressed", String(isPaused));
      element.dispatchEvent(new CustomEvent("paused", { detail: isPaused }));
    });
  }
}

document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr } = event.detail;
  // A form that was refused is shown again with what is wrong with it.
  if (xhr.status === 400 || xhr.status === 409 || xhr.status === 422) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
  if (target.dataset.every) {
    if (lastShown.get(target) === xhr.responseText) event.detail.shouldSwap = false;
    lastShown.set(target, xhr.responseText);
    delete target.dataset.stale;
  }
});

document.addEventListener("htmx:afterSwap", (event) => { prepare(event.detail.target); });
// After a form has been shown again: to what is wrong with it, else to where the work goes on if its button is gone.
document.addEventListener("htmx:afterSettle", (event) => {
  const { target, requestConfig } = event.detail;
  if (!requestConfig || requestConfig.verb === "get") return;
  const fault = target.querySelector("[data-focus]");
  if (fault) { fault.focus(); fault.scrollIntoView({ block: "center" }); }
  else if (document.activeElement === document.body) target.querySelector("[data-focus-after]")?.focus({ preventScroll: true });
});
document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.verb !== "get") event.detail.headers["X-OmniRoute-CSRF"] = token();
});

let hasEnded = false;

// What was typed on this page stays: the login opens only when it is asked for.
function tellEnded() {
  if (hasEnded) return;
  hasEnded = true;
  const login = new URL("login", document.querySelector('link[rel="manifest"]')?.href || window.location.href);
  login.searchParams.set("next", window.location.pathname + window.location.search);
  toast(say("session_ended"), "danger", { action: { label: say("log_in"), run: () => { window.location.href = login; } } });
}

for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    const { target, xhr } = event.detail;
    if (xhr?.status === 401) {
      tellEnded();
      return;
    }
    if (target?.dataset.every) {
      target.dataset.stale = say("stale", { time: clock.format(new Date()) });
      return;
    }
    const id = xhr?.getResponseHeader?.("X-OmniRoute-Request-Id");
    toast(id ? say("failed_id", { id }) : say("failed"), "danger");
  });
}

// --- the connection ------------------------------------------------------------------------------------------------

const lost = document.getElementById("connection-lost");
let isLost = false;

function tellLost(now) {
  if (now === isLost) return;
  isLost = now;
  if (lost) lost.hidden = !now;
  for (const button of document.querySelectorAll("main button[type=submit]")) {
    if (now) { if (!button.disabled) { button.disabled = true; button.dataset.waits = "yes"; } }
    else if (button.dataset.waits) { button.disabled = false; delete button.dataset.waits; }
  }
}

async function watch() {
  if (document.hidden) return;
  try {
    const base = document.querySelector('link[rel="manifest"]')?.href || "/";
    const answer = await fetch(new URL("healthz", base), { cache: "no-store" });
    tellLost(!answer.ok);
  } catch (unreachable) {
    tellLost(true);
  }
}

if (lost) window.setInterval(watch, 15000);
window.addEventListener("offline", () => tellLost(true));
window.addEventListener("online", watch);

// --- keys ----------------------------------------------------------------------------------------------------------

const isTyping = (element) => element.matches("input, textarea, select, [contenteditable]");
let chord = "";

document.addEventListener("keydown", async (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    (await load("palette.js")).open();
    return;
  }
  if (event.key === "Escape") {
    const popup = event.target.closest?.("details[data-popup][open]");
    if (popup) { popup.open = false; popup.querySelector("summary").focus(); }
    const opened = document.getElementById("menu-open");
    if (opened?.checked) { opened.checked = false; opened.focus(); }
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("[data-palette-open]")?.focus();
  } else if (event.key === "?") {
    (await load("palette.js")).showShortcuts();
  } else if (chord === "g") {
    chord = "";
    const name = { h: "home", p: "providers", c: "combos", u: "usage", l: "logs", k: "keys", s: "settings", e: "health" }[event.key];
    const link = name && [...document.querySelectorAll(".menu a")].find((one) => one.dataset.name === name);
    if (link) { event.preventDefault(); link.click(); }
  } else if (event.key === "g") {
    chord = "g";
    window.setTimeout(() => { chord = ""; }, 1200);
  }
});

for (const field of document.querySelectorAll("[data-palette-open]")) {
  field.addEventListener("click", async () => { if (field.value === "") (await load("palette.js")).open(); });
}
for (const button of document.querySelectorAll("[data-shortcuts-open]")) {
  button.hidden = false;
  button.addEventListener("click", async () => (await load("palette.js")).showShortcuts());
}

// --- all of it -----------------------------------------------------------------------------------------------------

function prepare(scope) {
  for (const button of scope.querySelectorAll("[data-copy], [data-reveal]")) button.hidden = false;
  for (const element of scope.querySelectorAll("[data-script]")) element.hidden = false;
  for (const element of scope.querySelectorAll("[data-no-script]")) element.hidden = true;
  showTimes(scope);
  preparePolls(scope);
  if (scope.querySelector("[data-reorder]")) load("reorder.js").then((module) => module.prepare(scope));
  if (scope.querySelector("[data-chart]")) load("charts.js").then((module) => module.prepare(scope));
}

prepare(document);
prepareFlashes();
document.querySelector("[data-focus]")?.focus();
if ("serviceWorker" in navigator && window.isSecureContext) {
  const manifest = document.querySelector('link[rel="manifest"]');
  if (manifest) navigator.serviceWorker.register(new URL("sw.js", manifest.href)).catch(() => {});
}
