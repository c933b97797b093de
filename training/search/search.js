// The one chart of a search: planned time against accuracy of all trials, their front, and the confirmation.
"use strict";

(function () {
  const root = document.documentElement, place = document.getElementById("chart-trials");
  const data = JSON.parse(document.getElementById("data").textContent);
  const STATES = { complete: "trial, on held-out images", pruned: "ended early", fail: "failed" };
  const LOOKS = {
    complete: { symbol: "circle", colour: "--run0" }, pruned: { symbol: "x", colour: "--history" }, fail: { symbol: "cross", colour: "--history" },
    winner: { symbol: "star", colour: "--run2" }, start: { symbol: "diamond", colour: "--run1" },
  };

  const CONFIG = {
    responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", // nothing leaves the page
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };

  function points(rows, look, name, colour) {
    return {
      type: "scatter", mode: "markers", name, x: rows.map((row) => row.seconds), y: rows.map((row) => row.percent), text: rows.map((row) => row.about),
      marker: { symbol: look.symbol, size: look.symbol === "star" ? 12 : 8, color: colour(look.colour) }, hovertemplate: "%{text}<br>%{y:.2f} %, %{x:.1f} s<extra></extra>",
    };
  }

  function draw() {
    const style = getComputedStyle(root), colour = (name) => style.getPropertyValue(name).trim(), narrow = place.clientWidth < 560;
    const traces = Object.keys(STATES).map((state) => points(data.trials.filter((row) => row.state === state), LOOKS[state], STATES[state], colour));
    const front = { ...points(data.front, LOOKS.complete, "front", colour), mode: "lines", line: { color: colour("--run0"), width: 1.5, shape: "hv" }, hoverinfo: "skip" };
    const sides = ["winner", "start"].map((side) => points(data[side], LOOKS[side], `${side}, on the test images`, colour));
    const axis = { gridcolor: colour("--line"), zeroline: false, linecolor: colour("--line"), automargin: true, nticks: narrow ? 6 : 10 };
    const layout = {
      height: narrow ? 420 : 460, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: narrow ? false : "zoom",
      font: { color: colour("--ink"), size: narrow ? 12 : 13, family: "system-ui, 'Liberation Sans', Arial, sans-serif" },
      margin: { l: narrow ? 46 : 64, r: narrow ? 8 : 20, t: 10, b: 48 }, legend: { orientation: "h", y: -0.22 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink") }, namelength: -1 },
      xaxis: { ...axis, title: { text: narrow ? "seconds" : "seconds of T_total: planned for trials, measured for the confirmation" } }, yaxis: { ...axis, title: { text: `${data.metric}, %` }, range: data.range },
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: data.target, y1: data.target, line: { color: colour("--target"), dash: "dot" } }],
    };
    const all = [...traces, front, ...sides].filter((trace) => trace.x.length);
    Plotly.react(place, all, layout, { ...CONFIG, displayModeBar: narrow ? false : "hover" });
    root.dataset.drawn = "true";
  }

  draw();
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
