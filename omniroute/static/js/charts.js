// Time series on uPlot. The figures stand in a JSON script block beside the place of the chart:
//   <div data-chart="figures-id"></div>
//   <script type="application/json" id="figures-id">{"times": [epoch seconds], "unit": "requests",
//     "series": [{"label": "…", "values": [1, null], "colour": 1, "kind": "bars|line", "isDashed": false}]}</script>
const { say } = window.omniroute;

const style = () => getComputedStyle(document.documentElement);
const drawn = new Map();

function loaded() {
  if (window.uPlot) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("../lib/uplot.js" + new URL(import.meta.url).search, import.meta.url);
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = new URL("../lib/uplot.css" + new URL(import.meta.url).search, import.meta.url);
    document.head.append(sheet);
  });
}

function number(unit) {
  const language = document.documentElement.lang || undefined;
  if (unit === "USD") {
    const money = new Intl.NumberFormat(language, { style: "currency", currency: "USD", maximumFractionDigits: 4 });
    return (value) => (value == null ? "–" : money.format(value));
  }
  const plain = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
  return (value) => (value == null ? "–" : `${plain.format(value)}${unit === "ms" || unit === "%" ? ` ${unit}` : ""}`);
}

function options(place, figures) {
  const css = style();
  const colour = (index) => css.getPropertyValue(`--series-${index}`).trim();
  const axis = { stroke: css.getPropertyValue("--ink-faint").trim(), grid: { stroke: css.getPropertyValue("--line").trim(), width: 1 }, ticks: { show: false } };
  const format = number(figures.unit);
  return {
    width: Math.max(240, place.clientWidth),
    height: 240,
    cursor: { y: false },
    legend: { live: true },
    scales: { y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.08 : 1] } },
    axes: [axis, { ...axis, size: 64, values: (_plot, values) => values.map(format), label: figures.unitLabel || "", labelSize: 16 }],
    series: [{ label: say("time") }].concat(figures.series.map((one) => {
      const own = colour(one.colour || 1);
      const paths = one.kind === "bars" && window.uPlot.paths?.bars ? window.uPlot.paths.bars({ size: [0.7, 40] }) : undefined;
      return { label: one.label, stroke: own, fill: one.kind === "bars" ? own : `${own}22`, width: 1.5, dash: one.isDashed ? [5, 4] : undefined, paths, points: { show: figures.times.length < 2 }, value: (_plot, value) => format(value) };
    })),
  };
}

function draw(place) {
  const figures = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  drawn.get(place)?.destroy();
  place.replaceChildren();
  if (!figures.times.length) return void place.remove();
  const data = [figures.times, ...figures.series.map((one) => one.values)];
  drawn.set(place, new window.uPlot(options(place, figures), data, place));
}

// Values by the keyboard: the arrows move the cursor of a chart that has the focus.
function byKeys(place) {
  place.tabIndex = 0;
  place.setAttribute("role", "application");
  place.addEventListener("keydown", (event) => {
    const plot = drawn.get(place);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!plot || !step) return;
    event.preventDefault();
    const last = plot.data[0].length - 1;
    const at = Math.max(0, Math.min(last, (plot.cursor.idx ?? (step > 0 ? -1 : last + 1)) + step));
    plot.setCursor({ left: plot.valToPos(plot.data[0][at], "x"), top: 10 });
  });
}

export async function prepare(scope) {
  const places = [...scope.querySelectorAll("[data-chart]")].filter((place) => !drawn.has(place));
  if (!places.length) return;
  try {
    await loaded();
  } catch (missing) {
    for (const place of places) place.remove(); // the table below has the same figures
    return;
  }
  for (const place of places) {
    draw(place);
    byKeys(place);
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (Math.abs(place.clientWidth - width) < 8) return;
      width = place.clientWidth;
      drawn.get(place)?.setSize({ width: Math.max(240, width), height: 240 });
    }).observe(place);
  }
  new MutationObserver(() => places.forEach(draw)).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
}
