// The sliders of an auto channel: each moves with its number, and the sum of all is shown while they are changed.
for (const form of document.querySelectorAll("[data-weights]")) {
  const sliders = [...form.querySelectorAll("[data-weight-slider]")];
  const numberOf = (slider) => document.getElementById(slider.dataset.weightSlider);
  const sum = form.querySelector("[data-weights-sum]");

  const showSum = () => {
    const total = sliders.reduce((all, slider) => all + (Number(numberOf(slider).value.replace(",", ".")) || 0), 0);
    sum.textContent = total.toFixed(2);
  };
  for (const slider of sliders) {
    slider.addEventListener("input", () => { numberOf(slider).value = slider.value; showSum(); });
    numberOf(slider).addEventListener("input", () => { slider.value = numberOf(slider).value.replace(",", "."); showSum(); });
  }
}
