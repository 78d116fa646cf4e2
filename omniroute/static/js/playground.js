// The chat of the playground: every model's stream is read as it comes, and shown as text, never as HTML.
const { token, toast } = window.omniroute;

const form = document.getElementById("ask");
const columnsArea = document.getElementById("columns");
const message = form.elements.message;
const texts = JSON.parse(document.getElementById("play-texts").textContent);
const templates = JSON.parse(document.getElementById("play-templates").textContent);
const status = document.getElementById("play-status");
const buttons = Object.fromEntries(["send", "stop", "clear", "add-model"].map((id) => [id, document.getElementById(id)]));
const language = document.documentElement.lang || undefined;
const plain = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat(language);

function say(name, values = {}) {
  return Object.entries(values).reduce((text, [key, value]) => text.replaceAll(`{${key}}`, value), texts[name]);
}

function money(value) {
  const digits = value > 0 && value < 0.01 ? 6 : 2;
  return new Intl.NumberFormat(language, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", minimumFractionDigits: 2, maximumFractionDigits: digits }).format(value);
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${plain.format(ms / 1000)} s`;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// Server-sent events out of pieces that may end anywhere, within a character too.
class Events {
  constructor() {
    this.decoder = new TextDecoder();
    this.rest = "";
  }

  take(bytes) {
    this.rest += bytes ? this.decoder.decode(bytes, { stream: true }) : this.decoder.decode();
    const blocks = this.rest.split(/\r\n\r\n|\n\n|\r\r/);
    this.rest = bytes ? blocks.pop() : "";
    return blocks.map(Events.read);
  }

  static read(block) {
    const event = { name: "", data: [], notes: {} };
    for (const line of block.split(/\r\n|\n|\r/)) {
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") event.data.push(value);
      else if (field === "event") event.name = value;
      else if (field === "") {
        const [name, ...rest] = value.split("=");
        event.notes[name] = rest.join("=");
      }
    }
    return { ...event, data: event.data.join("\n") };
  }
}

// One answer as it comes: what was said so far, and what is known of it.
class Answer {
  constructor(talk) {
    this.began = performance.now();
    this.text = "";
    this.notes = {};
    this.usage = null;
    this.firstAt = null;
    this.isDone = false;
    this.failure = "";
    this.finish = "";
    this.talk = talk;
    this.said = element("p", "play-said is-waiting");
    talk.append(this.said);
  }

  take(event) {
    Object.assign(this.notes, event.notes);
    if (!event.data) return;
    if (event.data === "[DONE]") { this.isDone = true; return; }
    let chunk;
    try {
      chunk = JSON.parse(event.data);
    } catch (unreadable) {
      this.failure ||= event.data;
      return;
    }
    if (chunk.error || event.name === "error") {
      this.failure = chunk.error?.message || chunk.message || event.data;
      return;
    }
    if (chunk.usage) this.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    this.think(choice.delta?.reasoning_content || choice.delta?.reasoning || "");
    this.speak(choice.delta?.content || choice.delta?.refusal || "");
    if (choice.finish_reason) this.finish = choice.finish_reason;
  }

  think(text) {
    if (!text || typeof text !== "string") return;
    this.firstAt ??= performance.now();
    if (!this.thoughts) {
      const box = element("details", "play-thoughts");
      this.thoughts = element("p", "");
      box.append(element("summary", "", say("thinking")), this.thoughts);
      this.said.before(box);
    }
    this.thoughts.append(text);
  }

  speak(text) {
    if (!text) return;
    this.firstAt ??= performance.now();
    this.text += text;
    const isAtEnd = this.talk.scrollHeight - this.talk.scrollTop - this.talk.clientHeight < 60;
    this.said.classList.remove("is-waiting");
    this.said.append(text);
    if (isAtEnd) this.talk.scrollTop = this.talk.scrollHeight;
  }

  note(text, category) {
    const box = element("div", `notice notice-${category}`);
    box.append(element("p", "", text));
    this.talk.append(box);
    this.talk.scrollTop = this.talk.scrollHeight;
  }

  close(failure = "") {
    this.endedAt = performance.now();
    this.said.classList.remove("is-waiting");
    if (!this.text) this.said.remove();
    this.failure ||= failure;
    if (this.failure) this.note(this.failure, "danger");
    else if (this.finish === "length") this.note(say("limit"), "warning");
    else if (this.finish === "content_filter") this.note(say("filtered"), "warning");
    else if (!this.text && !this.thoughts) this.note(say("nothing"), "warning");
  }
}

class Column {
  constructor(box) {
    this.box = box;
    this.field = box.querySelector("input[name=model]");
    this.talk = box.querySelector("[data-talk]");
    this.facts = box.querySelector("[data-facts]");
    this.history = [];
  }

  get model() { return this.field.value.trim(); }

  request(text) {
    const system = form.elements.system.value.trim();
    const body = { model: this.model || "sandbox/story", messages: [...(system ? [{ role: "system", content: system }] : []), ...this.history, { role: "user", content: text }] };
    const temperature = Number.parseFloat(form.elements.temperature.value.replace(",", "."));
    const most = Number.parseInt(form.elements.maxTokens.value, 10);
    if (Number.isFinite(temperature)) body.temperature = temperature;
    if (Number.isFinite(most)) body.max_tokens = most;
    return body;
  }

  clear() {
    this.history = [];
    this.talk.replaceChildren(element("p", "play-empty", say("empty")));
    this.facts.replaceChildren();
  }

  async ask(text, signal) {
    const body = this.request(text);
    this.talk.querySelector(".play-empty")?.remove();
    this.talk.append(element("p", "play-said is-user", text));
    this.facts.replaceChildren();
    const answer = new Answer(this.talk);
    this.talk.scrollTop = this.talk.scrollHeight;
    let failure = "";
    try {
      failure = await this.receive(answer, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
    } catch (broken) {
      failure = say(signal.aborted ? "stopped" : answer.requestId ? "lost" : "unreachable");
    }
    answer.close(failure);
    if (answer.text) this.history.push({ role: "user", content: text }, { role: "assistant", content: answer.text });
    this.tell(answer);
  }

  // Read the answer to its end and return what is wrong with it, if anything.
  async receive(answer, body, signal) {
    const response = await fetch(form.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-OmniRoute-CSRF": token() },
      body: JSON.stringify(body),
      signal,
    });
    answer.requestId = response.headers.get("X-OmniRoute-Request-Id") || "";
    if (!response.ok) return refusal(response.status, await response.text());
    if (!response.body) return say("nothing");
    const reader = response.body.getReader();
    const events = new Events();
    for (;;) {
      const { value, done } = await reader.read();
      for (const event of events.take(done ? null : value)) answer.take(event);
      if (done) break;
    }
    return answer.isDone || answer.finish || answer.failure ? "" : say("cut");
  }

  tell(answer) {
    const total = answer.endedAt - answer.began;
    const parts = [];
    if (answer.firstAt !== null) parts.push(say("first", { time: duration(answer.firstAt - answer.began) }));
    parts.push(say("whole", { time: duration(total) }));
    const out = answer.usage?.completion_tokens ?? Number(answer.notes["x-omniroute-tokens-out"] ?? Number.NaN);
    const into = answer.usage?.prompt_tokens ?? Number(answer.notes["x-omniroute-tokens-in"] ?? Number.NaN);
    const spoke = answer.firstAt === null ? 0 : answer.endedAt - answer.firstAt;
    if (Number.isFinite(out) && spoke > 0) parts.push(say("speed", { count: plain.format(out / (spoke / 1000)) }));
    if (Number.isFinite(out)) parts.push(say("tokens", { in: Number.isFinite(into) ? whole.format(into) : "–", out: whole.format(out) }));
    const cost = answer.notes["x-omniroute-response-cost"];
    if (cost !== undefined) parts.push(say("cost", { amount: money(Number(cost)), kind: answer.notes["x-omniroute-cost-kind"] || "–" }));
    this.facts.replaceChildren(...parts.map((part) => element("span", "", part)));
    if (answer.requestId) {
      const link = element("a", "", say("way"));
      link.href = form.dataset.log.replace("LOG_ID", encodeURIComponent(answer.requestId));
      this.facts.append(link);
    }
  }
}

function refusal(code, text) {
  try {
    const error = JSON.parse(text).error;
    return error.code ? `${error.message} (${error.code})` : error.message;
  } catch (unreadable) {
    return say("refused", { status: code });
  }
}

// --- columns -------------------------------------------------------------------------------------------------------

const columns = [new Column(columnsArea.querySelector("[data-column]"))];
const most = Number(form.dataset.most);
let made = 1;

function add(model = "") {
  const box = document.getElementById("column").content.firstElementChild.cloneNode(true);
  made += 1;
  box.setAttribute("aria-label", say("column", { number: made }));
  const field = box.querySelector("input");
  field.id = `f-model-${made}`;
  field.value = model;
  box.querySelector("label").htmlFor = field.id;
  const column = new Column(box);
  box.querySelector("[data-remove]").addEventListener("click", () => {
    columns.splice(columns.indexOf(column), 1);
    box.remove();
    arrange();
    columns[0].field.focus();
  });
  columns.push(column);
  columnsArea.append(box);
  arrange();
  return column;
}

function arrange() {
  columnsArea.dataset.count = columns.length;
  buttons["add-model"].disabled = columns.length >= most;
  const which = document.getElementById("which-raw");
  const chosen = which.selectedIndex;
  which.replaceChildren(...columns.map((column, index) => new Option(column.model || say("column", { number: index + 1 }))));
  which.selectedIndex = Math.max(0, Math.min(chosen, columns.length - 1));
  document.querySelector("[data-which]").hidden = columns.length < 2;
  show();
}

// --- the request as others would send it ---------------------------------------------------------------------------

function show() {
  const index = Math.max(0, document.getElementById("which-raw").selectedIndex);
  const body = columns[index].request(message.value.trim() || say("hello"));
  const parts = {
    url: new URL(form.dataset.url, window.location.href).href,
    body: JSON.stringify(body, null, 2),
    streamed: JSON.stringify({ ...body, stream: true }, null, 2),
  };
  document.getElementById("raw").textContent = JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }, null, 2);
  for (const [name, template] of Object.entries(templates)) {
    document.getElementById(`code-${name}`).textContent = template.replace(/\{(url|body|streamed)\}/g, (_, part) => parts[part]);
  }
}

// --- asking --------------------------------------------------------------------------------------------------------

let running = null;

async function send() {
  const text = message.value.trim();
  if (running) return;
  if (!text) { toast(say("no_message"), "warning"); message.focus(); return; }
  const asked = columns.filter((column) => column.model);
  if (!asked.length) { toast(say("no_model"), "warning"); columns[0].field.focus(); return; }
  running = new AbortController();
  buttons.send.disabled = true;
  buttons.stop.hidden = false;
  status.textContent = say("asking", { count: asked.length });
  show();
  message.value = "";
  document.getElementById("view-chat").checked = true;
  await Promise.all(asked.map((column) => column.ask(text, running.signal)));
  status.textContent = say("done");
  buttons.send.disabled = false;
  buttons.stop.hidden = true;
  running = null;
}

form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
form.addEventListener("input", (event) => { if (event.target.name === "model") arrange(); else show(); });
document.getElementById("which-raw").addEventListener("change", show);
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
buttons.stop.addEventListener("click", () => { running?.abort(); message.focus(); });
buttons.clear.addEventListener("click", () => { running?.abort(); for (const column of columns) column.clear(); message.focus(); });
buttons["add-model"].addEventListener("click", () => { if (columns.length < most) add().field.focus(); });
buttons.clear.hidden = false;
buttons["add-model"].hidden = false;
for (const model of JSON.parse(form.dataset.others)) add(model);
arrange();
