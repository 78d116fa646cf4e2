// The chat tester: shows the pieces of the answer as they come, then the whole way, which the server draws.
const { token, prepare } = window.omniroute;

const form = document.getElementById("tester");
const texts = JSON.parse(document.getElementById("tester-texts").textContent);
const bodies = document.getElementById("tester-bodies").textContent;
const live = document.getElementById("live");
const frames = document.getElementById("live-frames");
const count = document.getElementById("live-count");
const way = document.getElementById("way");
const stop = document.getElementById("stop-tester");
const submit = form.querySelector("button[type=submit]");
let running = null;

function draft() {
  const value = (name) => form.elements[name].value.trim();
  const message = form.elements.message.value;
  const typed = value("body");
  const body = typed || JSON.parse(bodies, (name, part) => (part === "{message}" ? message : part))[value("format")];
  return { format: value("format"), body, model: value("model") || null, stream: form.elements.stream.checked };
}

function tell(text, category) {
  const note = document.createElement("div");
  note.className = `notice notice-${category}`;
  const words = document.createElement("p");
  words.textContent = text;
  note.append(words);
  way.replaceChildren(note);
}

function showFrame(piece, number) {
  const at = document.createElement("span");
  at.className = "tool-at";
  at.textContent = `${piece.atMs.toFixed(1)} ms`;
  frames.append(at, ` ${piece.text.trimEnd()}\n`);
  frames.parentElement.scrollTop = frames.parentElement.scrollHeight;
  count.textContent = texts.frames.replace("{count}", number);
}

async function showWay(result) {
  const answer = await fetch(form.dataset.way, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-OmniRoute-CSRF": token() },
    body: JSON.stringify(result),
  });
  if (!answer.ok) { tell(texts.failed, "danger"); return; }
  way.innerHTML = await answer.text();
  live.hidden = true;
  prepare(way);
  document.getElementById("way-result").focus();
}

async function receive(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let number = 0;
  let result = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line) continue;
      const one = JSON.parse(line);
      if (one.type === "frame") showFrame(one.frame, (number += 1));
      else if (one.type === "error") throw new Error(one.error.message);
      else result = one.result;
    }
  }
  if (!result) throw new Error(texts.failed);
  await showWay(result);
}

async function send() {
  running = new AbortController();
  submit.disabled = true;
  stop.hidden = false;
  live.hidden = false;
  frames.replaceChildren();
  way.replaceChildren();
  count.textContent = texts.waiting;
  try {
    const response = await fetch(form.dataset.send, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/x-ndjson", "X-OmniRoute-CSRF": token() },
      body: JSON.stringify(draft()),
      signal: running.signal,
    });
    if (response.ok) await receive(response);
    else tell((await response.json()).error.message, "danger");
  } catch (broken) {
    tell(running.signal.aborted ? texts.stopped : broken.message || texts.failed, running.signal.aborted ? "warning" : "danger");
  }
  submit.disabled = false;
  stop.hidden = true;
  running = null;
}

form.addEventListener("submit", (event) => {
  // A key is known by its name to the page alone, and what is missing is said by the form: both go the plain way.
  const isPlain = form.elements.key.value.trim() || (!form.elements.body.value.trim() && !(form.elements.model.value.trim() && form.elements.message.value.trim()));
  if (isPlain) return;
  event.preventDefault();
  if (!running) send();
});
stop.addEventListener("click", () => running?.abort());
