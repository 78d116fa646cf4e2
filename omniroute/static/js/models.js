// Fields for a model: while one types, the list offers what the server knows by that part of a name.
//   <input list="models" data-models="/api/models">
const WAIT_MS = 200;
const MOST = 40;
let timer = 0;
let last = "";

async function offer(field) {
  const list = field.list;
  // In a list with commas only its last name is searched for.
  const wanted = field.value.split(",").pop().trim();
  if (!list || wanted.length < 2 || wanted === last) return;
  last = wanted;
  const query = new URLSearchParams({ q: wanted, type: "chat", active: "true", limit: MOST });
  try {
    const answer = await fetch(`${field.dataset.models}?${query}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const known = new Set([...list.options].map((option) => option.value));
    for (const model of (await answer.json()).models) {
      if (known.has(model.id)) continue;
      const option = document.createElement("option");
      option.value = model.id;
      list.append(option);
    }
  } catch (unreachable) {
    last = ""; // What is not offered can be typed all the same.
  }
}

document.addEventListener("input", (event) => {
  if (!event.target.matches?.("[data-models]")) return;
  window.clearTimeout(timer);
  timer = window.setTimeout(offer, WAIT_MS, event.target);
});
