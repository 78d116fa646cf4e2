// Rows that appear as things happen. A block says where its events come from and which template shows one:
//   <div id="rows" data-live="/api/…/stream" data-live-event="request" data-live-template="log-row" data-live-most="50">
//     … <tbody data-live-rows> … </div>
//   <template id="log-row" data-words='{"failed": ["failed", "bad"]}'><tr>… data-show="costUsd" data-as="money" …
// Nothing is followed in hidden tabs; while the stream cannot be had, the block is loaded anew every few seconds.
const { prepare } = window.omniroute;

const POLL_MS = 3000;
const RETRY_MS = 15000;
const NEW_MS = 2500;
const language = document.documentElement.lang || undefined;
const compact = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
const plain = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });

function money(value) {
  const digits = value > 0 && value < 0.01 ? 4 : 2;
  return new Intl.NumberFormat(language, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

const FORMATS = {
  short: (value) => compact.format(value),
  money,
  duration: (value) => (value < 1000 ? `${Math.round(value)} ms` : `${plain.format(value / 1000)} s`),
};

function show(element, one, words) {
  const value = one[element.dataset.show] ?? one[element.dataset.or];
  const as = element.dataset.as;
  if (element.dataset.href && value) element.href = element.dataset.href.replace("LOG_ID", encodeURIComponent(one.requestId));
  if (value === null || value === undefined || value === "") {
    element.textContent = as === "optional" ? "" : "–";
    return;
  }
  if (as === "time") {
    element.setAttribute("datetime", value);
    element.textContent = value;
  } else if (as === "outcome") {
    const [text, kind] = words[String(value).toLowerCase()] || [value, "off"];
    element.textContent = text;
    element.classList.add(`is-${kind}`);
  } else {
    element.textContent = (FORMATS[as] || String)(value);
  }
}

function rowOf(template, one) {
  const words = JSON.parse(template.dataset.words || "{}");
  const row = template.content.firstElementChild.cloneNode(true);
  if (row.dataset.setId) row.dataset.id = one[row.dataset.setId];
  for (const element of [row, ...row.querySelectorAll("[data-show]")]) {
    if (element.dataset.show) show(element, one, words);
  }
  return row;
}

class Follower {
  constructor(block) {
    this.block = block;
    this.template = document.getElementById(block.dataset.liveTemplate);
    this.most = Number(block.dataset.liveMost || 50);
    this.waiting = [];
    this.isPaused = false;
    this.state = document.getElementById("live-state");
    this.button = document.querySelector(`[data-live-pause="${block.id}"]`);
    if (this.button) {
      this.button.hidden = false;
      this.button.addEventListener("click", () => this.pause(!this.isPaused));
    }
    document.addEventListener("visibilitychange", () => this.go());
    window.addEventListener("pagehide", () => this.stop());
    window.setInterval(() => { if (this.isFollowing() && !this.isOpen()) this.refresh(); }, POLL_MS);
    this.go();
  }

  isFollowing() { return !this.isPaused && !document.hidden; }

  isOpen() { return this.source?.readyState === EventSource.OPEN; }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.button.setAttribute("aria-pressed", String(isPaused));
    this.go();
  }

  go() {
    if (this.state) this.state.hidden = this.isPaused;
    if (this.isFollowing()) this.open(); else this.stop();
  }

  open() {
    this.stop();
    if (!window.EventSource) return;
    this.source = new EventSource(this.block.dataset.live);
    // What happened before the stream was there is in the block; what comes from now on is in both, and shown once.
    this.source.addEventListener("open", () => this.refresh());
    this.source.addEventListener(this.block.dataset.liveEvent, (event) => this.take(JSON.parse(event.data)));
    // The server ends a stream when it stops or the session does; then the block says which.
    this.source.addEventListener("end", () => this.later());
    this.source.addEventListener("error", () => { if (this.source?.readyState === EventSource.CLOSED) this.later(); });
  }

  later() {
    this.stop();
    this.timer = window.setTimeout(() => { if (this.isFollowing()) this.open(); }, RETRY_MS);
  }

  stop() {
    window.clearTimeout(this.timer);
    this.source?.close();
    this.source = undefined;
  }

  refresh() {
    window.htmx?.trigger(this.block, "refresh");
  }

  take(one) {
    this.waiting.push(one);
    if (this.waiting.length > this.most) this.waiting.shift();
    this.frame ||= window.requestAnimationFrame(() => this.put());
  }

  put() {
    this.frame = undefined;
    const rows = this.block.querySelector("[data-live-rows]");
    const news = this.waiting.splice(0);
    if (!rows) { this.refresh(); return; } // the first row of all: the block still says that there is none
    for (const one of news) {
      if (one.requestId && [...rows.children].some((row) => row.dataset.id === one.requestId)) continue;
      const row = rowOf(this.template, one);
      rows.prepend(row);
      prepare(row);
      window.setTimeout(() => row.classList.remove("is-new"), NEW_MS);
    }
    while (rows.children.length > this.most) rows.lastElementChild.remove();
  }
}

for (const block of document.querySelectorAll("[data-live]")) new Follower(block);
