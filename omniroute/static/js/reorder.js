// Lists whose rows can be dragged into another order. The order is that of the hidden fields in the rows; buttons that
// move a row up or down work by the keyboard. A list with data-reorder="submit" sends its form after each move.
const { say, toast } = window.omniroute;

const ready = new WeakSet();

function rows(list) {
  return [...list.children].filter((row) => row.matches("[data-row]"));
}

// A list may be one page of a longer one: then the first row can go further up, or the last one further down.
function canLeave(row, way) {
  const button = row?.querySelector(`[data-move="${way}"]`);
  return Boolean(button) && !button.disabled;
}

function settle(list, row, leads) {
  const all = rows(list);
  const place = all.indexOf(row) + 1;
  let live = document.getElementById("reorder-said");
  if (!live) {
    live = document.createElement("p");
    live.id = "reorder-said";
    live.className = "visually-hidden";
    live.setAttribute("aria-live", "polite");
    document.body.append(live);
  }
  live.textContent = say("moved", { name: row.dataset.row, place, total: all.length });
  all.forEach((one, at) => {
    const up = one.querySelector('[data-move="up"]');
    const down = one.querySelector('[data-move="down"]');
    if (up) up.disabled = at === 0 && !leads.up;
    if (down) down.disabled = at === all.length - 1 && !leads.down;
  });
  list.dispatchEvent(new CustomEvent("reordered", { bubbles: true }));
  if (list.dataset.reorder === "submit") save(list);
}

async function save(list) {
  const form = list.closest("form") || document.getElementById(list.dataset.form); // rows may hold forms of their own
  try {
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { "HX-Request": "true" } });
    if (!answer.ok) throw new Error(String(answer.status));
    toast(say("order_saved"));
  } catch (refused) {
    toast(say("failed"), "danger");
  }
}

function prepareList(list) {
  let dragged = null;
  const hasChanged = { now: false };
  const shown = rows(list);
  const leads = { up: canLeave(shown[0], "up"), down: canLeave(shown.at(-1), "down") };

  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-move]");
    if (!button) return;
    const row = button.closest("[data-row]");
    const other = button.dataset.move === "up" ? row.previousElementSibling : row.nextElementSibling;
    if (!other || !other.matches("[data-row]")) return; // on to another page, which the form does
    event.preventDefault();
    if (button.dataset.move === "up") other.before(row); else other.after(row);
    settle(list, row, leads);
    (button.disabled ? row.querySelector("[data-move]:not(:disabled)") : button)?.focus();
  });

  list.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest("[data-handle]");
    if (!handle || event.button !== 0) return;
    dragged = handle.closest("[data-row]");
    dragged.classList.add("is-dragged");
    list.setPointerCapture(event.pointerId); // not the handle: it moves with its row, and what moves loses the pointer
    event.preventDefault();
  });

  list.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    const over = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-row]");
    if (!over || over === dragged || over.parentElement !== list) return;
    const box = over.getBoundingClientRect();
    const isBefore = rows(list).indexOf(over) < rows(list).indexOf(dragged);
    if (isBefore && event.clientY < box.top + box.height * 0.7) { over.before(dragged); hasChanged.now = true; }
    else if (!isBefore && event.clientY > box.top + box.height * 0.3) { over.after(dragged); hasChanged.now = true; }
  });

  function drop() {
    if (!dragged) return;
    const row = dragged;
    dragged = null;
    row.classList.remove("is-dragged");
    if (hasChanged.now) settle(list, row, leads);
    hasChanged.now = false;
  }
  list.addEventListener("pointerup", drop);
  list.addEventListener("pointercancel", drop);
}

export function prepare(scope) {
  for (const list of scope.querySelectorAll("[data-reorder]")) {
    if (ready.has(list)) continue;
    ready.add(list);
    for (const handle of list.querySelectorAll("[data-handle]")) handle.hidden = false;
    prepareList(list);
  }
}
