// Draws the charts into their places and draws them again when the reader switches something, the colours change or
// the page is printed. Everything shown comes from the JSON in #data.
"use strict";

(function () {
  const root = document.documentElement, find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const CHARTS = { time: timeChart, epochs: epochsChart, ledger: ledgerChart, speed: speedChart, schedule: scheduleChart, steps: stepsChart };
  const DASHED = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" };
  const OUTLINES = {
    circle: "M17 6a4 4 0 1 0 .01 0", square: "M13 6h8v8h-8z", diamond: "M17 5l5 5-5 5-5-5z", "triangle-up": "M17 5l5 9H12z",
    "triangle-down": "M17 15l5-9H12z", cross: "M15.5 5h3v3.5H22v3h-3.5V15h-3v-3.5H12v-3h3.5z",
    x: "M13.4 5l3.6 3.6L20.6 5 22 6.4 18.4 10l3.6 3.6-1.4 1.4-3.6-3.6-3.6 3.6-1.4-1.4 3.6-3.6L12 6.4z",
  };
  const CONFIG = {
    responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", // nothing leaves the page
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };
  const PRINT_WIDTH = 680, NARROW = 560, NARROW_WINDOW = "(max-width: 600px)"; // CSS pixels
  let printing = false;
  const state = {
    runs: new Set(data.runs.keys()), curves: new Set(data.curves.keys()), clock: "total", metric: data.metric, logTime: false, near: false, history: false,
    ledgerRun: data.runs.length > 1 ? null : 0, scheduleAxis: "epochs",
  };

  function view(place) {
    const style = getComputedStyle(root), wide = printing ? PRINT_WIDTH : place.clientWidth;
    return { narrow: wide < NARROW, width: printing ? PRINT_WIDTH : undefined, colour: (name) => style.getPropertyValue(name).trim() };
  }

  function draw(name) {
    const place = find(`chart-${name}`);
    if (!place) return;
    const seen = view(place), { traces, layout } = CHARTS[name](seen, data, state);
    const config = { ...CONFIG, displayModeBar: seen.narrow ? false : "hover" };
    place.style.minHeight = `${layout.height}px`;
    Plotly.react(place, traces, layout, config);
  }

  function drawAll() {
    Object.keys(CHARTS).forEach(draw);
  }

  // one chart at a time, so that the page answers in between; `drawn` tells that all are there
  function drawInTurn(names) {
    if (!names.length) { root.dataset.drawn = "true"; return; }
    draw(names[0]);
    setTimeout(drawInTurn, 0, names.slice(1));
  }

  function swatch({ colour, symbol, dash }) {
    const make = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
    const filled = { fill: `var(${colour})` }, hollow = { fill: "var(--paper)", stroke: `var(${colour})` };
    const svg = make("svg"), stroke = make("path"), mark = make("path");
    Object.entries({ width: 34, height: 20, "aria-hidden": "true" }).forEach(([name, value]) => svg.setAttribute(name, value));
    Object.entries({ d: "M0 10H34", stroke: `var(${colour})`, "stroke-width": 2, "stroke-dasharray": DASHED[dash] }).forEach(([name, value]) => stroke.setAttribute(name, value));
    Object.entries({ d: OUTLINES[symbol.replace("-open", "")], ...(symbol.endsWith("-open") ? hollow : filled) }).forEach(([name, value]) => mark.setAttribute(name, value));
    svg.append(stroke, mark);
    return svg;
  }

  // a check box for each run and for each result beside them
  function listRuns() {
    find("runs").hidden = data.runs.length + data.curves.length === 1;
    data.runs.forEach((run, index) => find("runs").append(choice(run.name, styleOf(index), state.runs, index)));
    data.curves.forEach((curve, index) => find("runs").append(choice(curve.name, curveStyle(index), state.curves, index)));
  }

  function choice(words, style, chosen, index) {
    const label = document.createElement("label"), box = document.createElement("input"), name = document.createElement("span");
    Object.assign(box, { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(index); else chosen.delete(index);
      drawAll();
    });
    name.textContent = words;
    label.append(box, swatch(style), name);
    return label;
  }

  // says above each table that is wider than its frame that there is more; a closed one has no width yet
  function hintAtMore() {
    document.querySelectorAll(".scroll").forEach((frame) => frame.classList.toggle("more", frame.scrollWidth > frame.clientWidth + 1));
  }

  function on(id, charts, take) {
    const control = find(id);
    if (control) control.addEventListener("change", () => { take(control); charts.forEach(draw); });
  }

  function listen() {
    on("clock", ["time"], (control) => { state.clock = control.value; });
    on("metric", ["time", "epochs"], (control) => { state.metric = control.value; });
    on("near", ["time", "epochs"], (control) => { state.near = control.checked; });
    on("log-time", ["time"], (control) => { state.logTime = control.checked; });
    on("history", ["time"], (control) => {
      state.history = control.checked;
      state.logTime = find("log-time").checked = control.checked; // they spread over five powers of ten
    });
    on("ledger-run", ["ledger"], (control) => { state.ledgerRun = control.value === "" ? null : Number(control.value); });
    on("schedule-axis", ["schedule"], (control) => { state.scheduleAxis = control.value; });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    matchMedia("print").addEventListener("change", drawAll); // some browsers are back on the screen only after afterprint
    matchMedia(NARROW_WINDOW).addEventListener("change", drawAll); // a phone is turned; plotly does the rest
    addEventListener("resize", hintAtMore);
    addEventListener("toggle", hintAtMore, true);
    addEventListener("beforeprint", () => { printing = true; root.dataset.theme = "light"; drawAll(); });
    addEventListener("afterprint", () => { printing = false; delete root.dataset.theme; drawAll(); });
  }

  document.getElementById("controls").reset(); // browsers keep what was switched before a reload
  listRuns();
  listen();
  hintAtMore();
  requestAnimationFrame(() => setTimeout(drawInTurn, 0, Object.keys(CHARTS)));
})();
