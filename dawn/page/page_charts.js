// What each chart shows: functions of the page's data and of what the reader has switched on, without side effects.
// Names come from run logs and are never trusted: they reach plotly only through plainText().
"use strict";

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "x"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const LEDGER = [
  ["data", "data wait", "/"], ["train", "compute", ""], ["eval", "evaluation", "."], ["checkpoint", "checkpoint", "x"],
  ["switch", "switch", "\\"], ["inspect", "inspection", "-"], ["other", "other", "+"],
];
const VERDICT_GAP = 0.2; // of the height, room for what limits each phase
const METRIC_NAMES = { top1: "top-1", top5: "top-5" };

// plotly reads a few tags and entities in its texts; as entities they stay text
function plainText(words) {
  return words.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function styleOf(index) {
  const symbol = SYMBOLS[index % SYMBOLS.length];
  return { colour: `--run${index % SYMBOLS.length}`, symbol, dash: DASHES[Math.floor(index / SYMBOLS.length) % DASHES.length] };
}

function runsShown(data, state) {
  return data.runs.map((run, index) => ({ run, index })).filter(({ index }) => state.runs.has(index));
}

// results of other codes: grey, dashed and hollow, so that none is taken for a run
function curveLines(view, data, state, xOf, hover) {
  const shown = data.curves.map((curve, index) => ({ curve, index })).filter(({ index }) => state.curves.has(index));
  return shown.map(({ curve, index }) => {
    const { dash, symbol } = curveStyle(index), color = view.colour("--history");
    return {
      type: "scatter", mode: "lines+markers", x: xOf(curve), y: curve[state.metric], name: plainText(curve.name), connectgaps: true,
      meta: [plainText(curve.name), plainText(curve.clock)], line: { color, dash, width: 1.5 }, marker: { symbol, size: 7, maxdisplayed: 14, color },
      hovertemplate: `%{meta[0]}<br>${METRIC_NAMES[state.metric]} %{y:.6~f} %<br>${hover}<extra></extra>`,
    };
  });
}

function curveStyle(index) {
  const symbol = `${SYMBOLS[index % SYMBOLS.length]}-open`;
  return { colour: "--history", symbol, dash: DASHES[1 + (index % (DASHES.length - 1))] };
}

function line(view, run, index, x, y, hover, more) {
  const { colour, symbol, dash } = styleOf(index);
  const marker = { symbol, size: 7, maxdisplayed: 14, color: view.colour(colour) };
  return {
    type: "scatter", mode: "lines+markers", x, y, meta: plainText(run.name), name: plainText(run.name), connectgaps: true,
    line: { color: view.colour(colour), dash, width: 2 }, marker, hovertemplate: `%{meta}<br>${hover}<extra></extra>`, ...more,
  };
}

function layoutOf(view, height, more) {
  const layout = {
    height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest", barmode: "stack",
    font: { color: view.colour("--ink"), size: view.narrow ? 12 : 13, family: "system-ui, 'Liberation Sans', Arial, sans-serif" },
    margin: { l: view.narrow ? 46 : 64, r: view.narrow ? 8 : 20, t: 26, b: 48 }, dragmode: view.narrow ? false : "zoom",
    hoverlabel: { bgcolor: view.colour("--raised"), bordercolor: view.colour("--line"), font: { color: view.colour("--ink") }, namelength: -1 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: view.colour("--muted"), activecolor: view.colour("--ink") }, ...more,
  };
  if (view.width) layout.width = view.width;
  return layout;
}

function axis(view, title, more) {
  return {
    title: { text: title, standoff: 8, font: { size: view.narrow ? 12 : 13 } }, gridcolor: view.colour("--line"), zeroline: false,
    linecolor: view.colour("--line"), automargin: true, nticks: view.narrow ? 6 : 10, ...more,
  };
}

// near the target: from a few points below it on, where the runs part
function accuracyRange(state, values, targets) {
  const range = padded([...values, ...targets], 101), target = Math.min(...targets);
  if (state.near && targets.length) range[0] = target - Math.max(1, 2 * (range[1] - target));
  return range;
}

// a little more than the values span; a constant gets some room too
function padded(values, most) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  const room = (high - low) * 0.08 || Math.abs(high) * 0.2 || 1;
  return [low - room, most === undefined ? high + room : Math.min(high + room, most)];
}

function band(view, number, x0, x1) {
  const fillcolor = view.colour(`--shade${number % 2}`);
  return { type: "rect", xref: "x", yref: "paper", x0, x1, y0: 0, y1: 1, fillcolor, line: { width: 0 }, layer: "below" };
}

function label(view, words, x, y, more) {
  const font = { size: view.narrow ? 11 : 12, color: view.colour("--muted") };
  return { text: words, x, y, xref: "x", yref: "paper", showarrow: false, font, yanchor: "bottom", ...more };
}

// phases of the first run that is shown: bands, and their names where they have room
function phaseBands(view, data, state, borders, end, words) {
  const shapes = [], annotations = [], first = runsShown(data, state).find(({ run }) => run.phases.length);
  if (!first) return { shapes, annotations };
  first.run.phases.forEach((phase, number) => {
    const [x0, x1] = borders(phase, number ? first.run.phases[number - 1] : null), logarithmic = state.logTime && borders.time;
    shapes.push(band(view, number, x0, x1));
    const share = logarithmic ? Math.log10(x1 / x0) / Math.log10(end / borders.least) : (x1 - x0) / end;
    const middle = logarithmic ? (Math.log10(x0) + Math.log10(x1)) / 2 : (x0 + x1) / 2;
    if (share > (view.narrow ? 0.13 : 0.06)) annotations.push(label(view, words(phase), middle, 0.01));
    else if (share > 0.025) annotations.push(label(view, words(phase).replace(/<br>/g, " "), middle, 0.01, { textangle: -90 }));
  });
  return { shapes, annotations };
}

function targetLines(view, data, state, layout) {
  const mine = runsShown(data, state).filter(({ run }) => run.metric === state.metric && run.target !== null);
  for (const target of new Set(mine.map(({ run }) => run.target))) {
    const colour = view.colour("--target");
    layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: target, y1: target, line: { color: colour, width: 1.5, dash: "dash" } });
    layout.annotations.push(label(view, `target ${target} % ${METRIC_NAMES[state.metric]}`, 0.005, target, { xref: "paper", yref: "y", xanchor: "left", bgcolor: view.colour("--paper"), opacity: 0.9, font: { size: 12, color: colour } }));
  }
  return mine.map(({ run }) => run.target);
}

function accuracyTraces(view, data, state, xOf, xName) {
  const traces = [], name = METRIC_NAMES[state.metric];
  for (const { run, index } of runsShown(data, state)) {
    const x = xOf(run), y = run.epochs[state.metric];
    const custom = y.map((_, i) => [run.epochs.epoch[i], run.epochs.size[i]]);
    traces.push(line(view, run, index, x, y, `epoch %{customdata[0]}, %{customdata[1]} px<br>${name} %{y:.6~f} %<br>${xName}`, { customdata: custom }));
    if (run.hit === null || run.metric !== state.metric) continue;
    const marker = { symbol: "star", size: 17, color: view.colour("--hit"), line: { color: view.colour("--paper"), width: 1.5 } };
    traces.push({ type: "scatter", mode: "markers", x: [x[run.hit]], y: [y[run.hit]], marker, meta: plainText(run.name), name: "target reached",
      customdata: [[run.epochs.epoch[run.hit]]], hovertemplate: `%{meta}<br>target reached in epoch %{customdata[0]}<br>${name} %{y:.6~f} %<br>${xName}<extra></extra>` });
  }
  return traces;
}

function timeUnit(data, state) {
  if (state.clock === "cost") return { clock: "total", divide: 3600 / data.price, title: "cost of T_total (US dollars)", hover: "$%{x:.4f}" };
  const { name, seconds } = data.unit;
  return { clock: state.clock, divide: seconds, title: `T_${state.clock} (${name})`, hover: `T_${state.clock} %{x:.4f} ${name}` };
}

function timeChart(view, data, state) {
  const unit = timeUnit(data, state), xOf = (run) => run.epochs[unit.clock].map((seconds) => seconds / unit.divide);
  const traces = accuracyTraces(view, data, state, xOf, unit.hover);
  const all = runsShown(data, state).flatMap(({ run }) => xOf(run)).filter((x) => x > 0);
  const end = all.reduce((a, b) => Math.max(a, b), 1e-9), least = all.reduce((a, b) => Math.min(a, b), end) / 1.5;
  const borders = (phase, before) => [before ? before.stop[unit.clock] / unit.divide : (state.logTime ? least : 0), phase.stop[unit.clock] / unit.divide];
  const old = state.history ? historyTrace(view, data, state, unit) : null;
  const others = [...(old ? old.x : []), ...(state.clock === "cost" ? [] : curvesEnds(data, state, unit))].filter((x) => x > 0);
  const spread = [...others, end, least], right = Math.max(...spread), left = Math.min(...spread);
  Object.assign(borders, { time: true, least: left });
  const layout = layoutOf(view, view.narrow ? 360 : 440, phaseBands(view, data, state, borders, right, (phase) => `${phase.size} px`));
  const targets = targetLines(view, data, state, layout);
  if (state.clock !== "cost") { // nobody knows what they cost
    const hours = unit.hover.replace(/T_\w+/, "time");
    traces.unshift(...curveLines(view, data, state, (curve) => curve.seconds.map((s) => s / unit.divide), `${hours}: %{meta[1]}`));
  }
  if (old) traces.unshift(old);
  const range = state.logTime ? [Math.log10(left) - 0.05, Math.log10(right) + 0.05] : [0, right * 1.03];
  layout.xaxis = axis(view, unit.title, { type: state.logTime ? "log" : "linear", range, showgrid: false });
  if (state.logTime) layout.xaxis.dtick = Math.log10(right / left) > 2 ? 1 : "D2";
  layout.yaxis = axis(view, `${METRIC_NAMES[state.metric]} accuracy (%)`, { range: accuracyRange(state, traces.flatMap((trace) => trace.y), targets) });
  layout.uirevision = `${state.clock} ${state.metric} ${state.logTime} ${state.history} ${state.near}`;
  return { traces, layout };
}

function curvesEnds(data, state, unit) {
  return data.curves.filter((_, index) => state.curves.has(index)).flatMap((curve) => curve.seconds.map((s) => s / unit.divide));
}

// historical results: one point each, hours as DAWNBench counts them
function historyTrace(view, data, state, unit) {
  if (state.metric !== data.metric) return null;
  const known = data.history.filter((old) => state.clock !== "cost" || old.cost_per_hour !== null);
  const x = known.map((old) => (state.clock === "cost" ? (old.seconds / 3600) * old.cost_per_hour : old.seconds / unit.divide));
  const custom = known.map((old) => [plainText(old.name), old.date, plainText(old.hardware)]);
  return {
    type: "scatter", mode: "markers", name: "historical results", x, y: known.map((old) => old.percent), customdata: custom,
    marker: { symbol: "diamond-open", size: 9, color: view.colour("--history"), line: { width: 2 } },
    hovertemplate: `%{customdata[0]}, %{customdata[1]}<br>%{customdata[2]}<br>%{y} %, ${unit.hover.replace(/T_\w+/, "DAWNBench hours:")}<extra></extra>`,
  };
}

function epochBorders(phase) { return [phase.first, phase.end]; }

function lastEpoch(data, state) {
  return Math.max(1, ...runsShown(data, state).flatMap(({ run }) => run.epochs.epoch.slice(-1)));
}

function epochsChart(view, data, state) {
  const traces = accuracyTraces(view, data, state, (run) => run.epochs.epoch, "");
  traces.unshift(...curveLines(view, data, state, (curve) => curve.epoch, "epoch %{x}"));
  const end = Math.max(lastEpoch(data, state), ...traces.flatMap((trace) => trace.x));
  const layout = layoutOf(view, view.narrow ? 340 : 400, phaseBands(view, data, state, epochBorders, end, (phase) => `${phase.size} px`));
  const targets = targetLines(view, data, state, layout);
  layout.xaxis = axis(view, "epochs trained", { range: [0, end * 1.02 + 0.1], showgrid: false });
  layout.yaxis = axis(view, `${METRIC_NAMES[state.metric]} accuracy (%)`, { range: accuracyRange(state, traces.flatMap((trace) => trace.y), targets) });
  layout.uirevision = `${state.metric} ${state.near}`;
  return { traces, layout };
}

function ledgerChart(view, data, state) {
  const chosen = state.ledgerRun === null ? null : data.runs[state.ledgerRun];
  const bars = chosen ? chosen.phases.map((phase) => ({ name: `${phase.epochs}: ${phase.size} px`, seconds: phase.seconds }))
    : runsShown(data, state).map(({ run }) => ({ name: run.name, seconds: run.ledger }));
  const sums = bars.map((bar) => LEDGER.reduce((sum, [label]) => sum + bar.seconds[label], 0)), most = view.narrow ? 17 : 40;
  const shorter = (name) => (name.length > most ? `${name.slice(0, most / 2)}…${name.slice(-most / 2)}` : name); // the seed is at the end
  const short = bars.map(({ name }) => plainText(shorter(name))), { name: unit, seconds: scale } = data.unit;
  const named = LEDGER.filter(([label]) => label !== "inspect" || bars.some((bar) => bar.seconds[label]));
  const traces = named.map(([label, name, shape]) => ({
    type: "bar", orientation: "h", name, x: bars.map((bar) => bar.seconds[label] / scale), y: bars.map((_, i) => i),
    text: bars.map((bar, i) => (!shape && bar.seconds[label] > 0.07 * Math.max(...sums) ? `${((100 * bar.seconds[label]) / sums[i]).toFixed(0)} %` : "")),
    textposition: "inside", insidetextanchor: "middle", textangle: 0, constraintext: "none", width: 0.72, textfont: { color: "#ffffff" },
    customdata: bars.map((bar, i) => [plainText(bar.name), sums[i] ? bar.seconds[label] / sums[i] : 0]),
    marker: { color: view.colour(`--${label}`), line: { width: 0 }, pattern: { shape, fillmode: "overlay", fgcolor: view.colour("--paper"), size: 7, solidity: 0.15 } },
    hovertemplate: `%{customdata[0]}<br>${name} %{x:.4f} ${unit}, %{customdata[1]:.1%}<extra></extra>`,
  }));
  const layout = layoutOf(view, 130 + 30 * Math.max(bars.length, 2) + (view.narrow ? 60 : 0), { showlegend: true, shapes: [], annotations: [] });
  layout.legend = { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal", font: { size: view.narrow ? 12 : 13 } };
  layout.xaxis = axis(view, unit, { rangemode: "tozero" });
  layout.yaxis = axis(view, chosen ? "epochs" : "", { tickvals: bars.map((_, i) => i), ticktext: short, range: [bars.length - 0.4, -0.6], showgrid: false });
  layout.uirevision = String(state.ledgerRun);
  return { traces, layout };
}

// charts below each other over one x-axis; rows: [title, values(run) or null where a run has none, more of the axis]
function stacked(view, data, state, rows, xOf, xTitle, xHover, mode, gap = 0.06) {
  const traces = [], layout = layoutOf(view, 60 + (view.narrow ? 130 : 145) * rows.length, { shapes: [], annotations: [] });
  const tall = (1 - gap * (rows.length - 1)) / rows.length;
  rows.forEach(([title, valuesOf, more], row) => {
    const id = row ? `y${row + 1}` : "y", all = [], top = 1 - row * (tall + gap);
    for (const { run, index } of runsShown(data, state)) {
      const values = valuesOf(run);
      all.push(...values);
      const hover = `${title.replace("<br>", " ")} %{y:${more.hover || ".6~g"}}<br>${xHover}`;
      traces.push(line(view, run, index, xOf(run), values, hover, { yaxis: id, mode }));
    }
    const { hover, ...rest } = more, range = rest.type ? undefined : padded(all);
    if (range && rest.rangemode === "tozero") range[0] = 0;
    layout[row ? `yaxis${row + 1}` : "yaxis"] = axis(view, title, { domain: [Math.max(0, top - tall), top], range, nticks: 5, ...rest });
  });
  layout.xaxis = axis(view, xTitle, { anchor: `y${rows.length > 1 ? rows.length : ""}` });
  return { traces, layout };
}

function speedChart(view, data, state) {
  const rows = [
    ["images/s", (run) => run.epochs.rate, { rangemode: "tozero", hover: ".1f" }],
    ["data wait", (run) => run.epochs.wait, { rangemode: "tozero", tickformat: ".0%", hover: ".2%" }],
  ];
  const figure = stacked(view, data, state, rows, (run) => run.epochs.epoch, "epochs trained", "epoch %{x}", "lines+markers", VERDICT_GAP);
  const end = lastEpoch(data, state), words = (phase) => phase.verdict.replace("the ", "").replace(" limits", "<br>limits");
  Object.assign(figure.layout, phaseBands(view, data, state, epochBorders, end, words));
  figure.layout.annotations = figure.layout.annotations.filter((annotation) => !annotation.textangle);
  figure.layout.annotations.forEach((annotation) => Object.assign(annotation, { y: 0.5, yanchor: "middle" })); // between the charts
  const wait = figure.layout.yaxis2;
  wait.range = [0, Math.max(0.06, wait.range[1])];
  figure.layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: 0.05, y1: 0.05, line: { color: view.colour("--target"), width: 1.5, dash: "dash" } });
  figure.layout.xaxis = { ...figure.layout.xaxis, range: [0, end * 1.02 + 0.1], showgrid: false };
  return figure;
}

// each epoch gives two points, its first and its last step
function scheduleChart(view, data, state) {
  const twice = (values) => values.flatMap((value) => [value, value]), inSteps = state.scheduleAxis === "steps";
  const rows = [
    ["learning<br>rate", (run) => run.epochs.lr.flat(), { rangemode: "tozero" }], ["momentum", (run) => run.epochs.momentum.flat(), {}],
    ["size (px)", (run) => twice(run.epochs.size), { rangemode: "tozero" }], ["global<br>batch", (run) => twice(run.epochs.global_batch_size), { rangemode: "tozero" }],
  ];
  const xOf = (run) => {
    let done = 0;
    return run.epochs.steps.flatMap((steps, i) => (inSteps ? [done, (done += steps)] : [Math.ceil(run.epochs.epoch[i]) - 1, run.epochs.epoch[i]])); // the last may be cut
  };
  const name = inSteps ? "training steps" : "epochs trained";
  const figure = stacked(view, data, state, rows, xOf, name, `%{x} ${name}`, "lines");
  figure.layout.uirevision = state.scheduleAxis;
  return figure;
}

function stepsChart(view, data, state) {
  const known = (name) => data.runs.some((run) => run.steps[name]);
  const rows = [
    ["loss", "loss", {}], ["images/s", "rate", { rangemode: "tozero", hover: ".1f" }],
    ["data wait", "wait", { rangemode: "tozero", tickformat: ".0%", hover: ".2%" }], ["learning<br>rate", "lr", {}],
  ].filter(([, name]) => known(name));
  return stacked(view, data, state, rows.map(([title, name, more]) => [title, (run) => run.steps[name] || [], more]),
    (run) => run.steps.number, "training steps", "step %{x}", "lines");
}
