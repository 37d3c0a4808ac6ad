"use strict";
// Draws the figures that stand in the page as JSON. Everything else is there without it.
(function () {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const root = document.documentElement;
  const config = { displayModeBar: false, responsive: true, showTips: false };
  const hiddenRuns = new Set();

  // "var(--x)" becomes the colour that the style sheet gives it now.
  function resolve(value, style) {
    if (typeof value === "string") {
      const match = /^var\((--[\w-]+)\)$/.exec(value);
      return match ? style.getPropertyValue(match[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
  }

  function draw(id, data, layout) {
    const style = getComputedStyle(root);
    const shown = data.map((trace) =>
      trace.meta && hiddenRuns.has(trace.meta.run) ? { ...trace, visible: false } : trace
    );
    return Plotly.react(document.getElementById(id), resolve(shown, style), resolve(layout, style), config);
  }

  function chosen(name) {
    const radio = document.querySelector(`input[name="${name}"]:checked`);
    return radio ? radio.value : null;
  }

  // The start at x = 0 has no place on a logarithmic axis; plotly.js would draw a line to it all the same.
  // A gap of zero has no logarithm either: it becomes one far below the frame, so that the line leaves downwards.
  function logarithmic(trace, offset) {
    const kept = trace.x.map((x) => x > 0);
    const x = trace.x.filter((_, i) => kept[i]);
    const y = trace.y.filter((_, i) => kept[i]).map((value) => Math.max(value - offset, 1e-30));
    return { ...trace, x, y };
  }

  function drawCurves() {
    const view = charts.curves.views[`${chosen("axis")} ${chosen("measure") || "loss"}`];
    const scale = chosen("scale");
    if (!view || !scale) return;
    const data = scale === "log" ? view.data.map((trace) => logarithmic(trace, view.offset)) : view.data;
    document.getElementById("curves-title").textContent = view.headings[scale];
    document.getElementById("curves-caption").textContent = view.captions[scale];
    draw("curves", data, view.layouts[scale]);
  }

  // Narrow pages have no room beside the plot: the colour bar goes, hovering still tells the loss.
  function narrowed(figure) {
    if (window.innerWidth >= 640) return figure;
    const data = figure.data.map((trace) => (trace.colorbar ? { ...trace, showscale: false } : trace));
    return { data, layout: figure.layout };
  }

  function drawAll() {
    drawCurves();
    for (const id of ["spread", "sharpness", "surface", "coefficients"]) {
      if (!charts[id]) continue;
      const figure = narrowed(charts[id].figure);
      draw(id, figure.data, figure.layout);
    }
  }

  function toggleRun(button) {
    const run = Number(button.dataset.run);
    const show = hiddenRuns.has(run);
    if (show) hiddenRuns.delete(run);
    else hiddenRuns.add(run);
    button.setAttribute("aria-pressed", String(show));
    drawAll();
  }

  for (const element of document.querySelectorAll(".chart, .controls, .bar, figcaption")) element.hidden = false;
  for (const element of document.querySelectorAll("details.numbers")) element.open = false;
  for (const radio of document.querySelectorAll("input[type=radio]")) radio.addEventListener("change", drawCurves);
  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => toggleRun(button));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("(min-width: 640px)").addEventListener("change", drawAll);
  // Paper is white: colours of the light page while printing.
  for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      root.classList.toggle("printing", printing);
      drawAll();
    });
  }
  drawAll();
})();
