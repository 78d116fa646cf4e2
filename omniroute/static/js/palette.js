// The command palette: pages, providers, combos, keys and request ids by name, as the server's search finds them.
const { say } = window.omniroute;

let dialog = null;

function build() {
  dialog = document.createElement("dialog");
  dialog.className = "palette";
  dialog.setAttribute("aria-label", say("palette"));
  dialog.innerHTML = '<input class="form-control" type="text" role="combobox" aria-expanded="true" aria-controls="palette-found" aria-autocomplete="list" autocomplete="off" maxlength="200"><ul id="palette-found" role="listbox"></ul>';
  const field = dialog.querySelector("input");
  const list = dialog.querySelector("ul");
  field.placeholder = say("palette_hint");
  field.setAttribute("aria-label", say("palette"));
  list.setAttribute("aria-label", say("palette"));
  document.body.append(dialog);

  let found = [];
  let chosen = 0;
  let asked = 0;
  let timer = 0;

  function mark(index) {
    chosen = Math.max(0, Math.min(found.length - 1, index));
    [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === chosen)));
    field.setAttribute("aria-activedescendant", found.length ? `palette-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  }

  function show(results) {
    found = results;
    list.replaceChildren(...results.map((one, at) => {
      const item = document.createElement("li");
      item.id = `palette-${at}`;
      item.setAttribute("role", "option");
      item.textContent = one.label;
      const kind = document.createElement("span");
      kind.className = "sub";
      kind.textContent = one.kind;
      item.append(kind);
      item.addEventListener("click", () => { window.location.href = one.href; });
      item.addEventListener("mousemove", () => { if (chosen !== at) mark(at); });
      return item;
    }));
    mark(0);
  }

  async function search() {
    const number = ++asked;
    const form = document.querySelector("form.finder");
    const url = new URL(form.action);
    url.searchParams.set("q", field.value);
    try {
      const answer = await fetch(url, { headers: { Accept: "application/json" } });
      if (answer.ok && number === asked) show((await answer.json()).results);
    } catch (unreachable) {
      show([]);
    }
  }

  field.addEventListener("input", () => { window.clearTimeout(timer); timer = window.setTimeout(search, 120); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); mark(chosen + 1); }
    else if (event.key === "ArrowUp") { event.preventDefault(); mark(chosen - 1); }
    else if (event.key === "Enter") {
      event.preventDefault();
      if (found[chosen]) window.location.href = found[chosen].href;
    }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.refresh = () => { field.value = ""; search(); };
}

export function open() {
  if (!dialog) build();
  if (dialog.open) return;
  dialog.showModal();
  dialog.refresh();
}

export function showShortcuts() {
  const box = document.createElement("dialog");
  box.setAttribute("aria-labelledby", "shortcuts-title");
  box.innerHTML = '<form method="dialog" class="dialog-body"><h2 id="shortcuts-title"></h2><dl class="facts"></dl><div class="dialog-actions"><button class="btn btn-primary"></button></div></form>';
  box.querySelector("h2").textContent = say("shortcuts");
  box.querySelector("button").textContent = say("close");
  const rows = [["Ctrl K", "shortcut_palette"], ["/", "shortcut_search"], ["?", "shortcut_help"], ["g h", "shortcut_home"],
    ["g p", "shortcut_providers"], ["g c", "shortcut_combos"], ["g u", "shortcut_usage"], ["g l", "shortcut_logs"],
    ["g e", "shortcut_health"], ["g k", "shortcut_keys"], ["g s", "shortcut_settings"], ["Esc", "shortcut_escape"]];
  for (const [keys, name] of rows) {
    const term = document.createElement("dt");
    const keyboard = document.createElement("kbd");
    keyboard.textContent = keys;
    term.append(keyboard);
    const meaning = document.createElement("dd");
    meaning.textContent = say(name);
    box.querySelector("dl").append(term, meaning);
  }
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}
