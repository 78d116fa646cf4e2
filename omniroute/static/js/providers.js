// Ticks in lists outlive the refreshing of the list; one box ticks all.

function boxes(form, name) {
  return [...form.querySelectorAll(`input[type="checkbox"][name="${name}"]`)];
}

for (const form of document.querySelectorAll("[data-keeps-ticks]")) {
  const all = form.querySelector("[data-tick-all]");
  const name = all.dataset.tickAll;
  let ticked = new Set();

  const remember = () => { ticked = new Set(boxes(form, name).filter((box) => box.checked).map((box) => box.value)); };
  const show = () => {
    const every = boxes(form, name);
    const count = every.filter((box) => box.checked).length;
    all.checked = count > 0 && count === every.length;
    all.indeterminate = count > 0 && count < every.length;
  };

  all.addEventListener("change", () => {
    for (const box of boxes(form, name)) box.checked = all.checked;
    remember();
  });
  form.addEventListener("change", (event) => { if (event.target.name === name) { remember(); show(); } });
  form.addEventListener("htmx:afterSwap", () => {
    for (const box of boxes(form, name)) box.checked = ticked.has(box.value);
    show();
  });
}
