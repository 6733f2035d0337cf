// Draws one dashboard with Grafana's own components: what it is and what Prometheus answered is in window.DASHBOARD. The gauge is not
// among the components that Grafana publishes: an arc stands in for it, and says so. What no picture may show is listed in #problems.
import React from "react";
import { createRoot } from "react-dom/client";
import {
  createTheme, dateTime, FieldType, formattedValueToString, getDisplayProcessor, getDisplayValueAlignmentFactors, reduceField,
  ThemeContext, toDataFrame,
} from "@grafana/data";
import { BarGauge, BigValue, GlobalStyles, PanelChrome, TimeSeries } from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";

const COLUMN = 60, ROW = 36, GAP = 8;
const theme = createTheme({ colors: { mode: "light" } });
const { dashboard, answers, absent, from, to } = window.DASHBOARD;
const NOTE = { position: "absolute", bottom: 6, right: 10, fontSize: 11, color: theme.colors.text.secondary };
const problems = [];
const CUSTOM = {
  drawStyle: "line", lineInterpolation: "linear", lineWidth: 1, fillOpacity: 0, pointSize: 5, showPoints: "never", spanNulls: false,
  axisPlacement: "auto", axisBorderShow: false, axisGridShow: true, axisColorMode: "text", barAlignment: 0, gradientMode: "none",
  scaleDistribution: { type: "linear" }, stacking: { mode: "none", group: "A" }, thresholdsStyle: { mode: "off" },
  hideFrom: { viz: false, legend: false, tooltip: false },
};

function legend(target, labels) {
  const name = target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "");
  return name || JSON.stringify(labels);
}

// The settings of a field: the defaults, then what overrides say of its name.
function settings(panel, name) {
  const { defaults, overrides = [] } = panel.fieldConfig;
  const config = { ...defaults, custom: { ...CUSTOM, ...defaults.custom }, displayNameFromDS: name };
  const thresholds = defaults.thresholds ?? { mode: "absolute", steps: [{ color: "green", value: null }] };
  config.thresholds = { ...thresholds, steps: thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })) };
  for (const { matcher, properties } of overrides) {
    const [, pattern] = /^\/(.*)\/$/.exec(matcher.options) ?? [];
    const hit = matcher.id === "byName" ? matcher.options === name : new RegExp(pattern).test(name);
    for (const { id, value } of hit ? properties : []) {
      const [scope, key] = id.split(".");
      if (key) config[scope][key] = value;
      else config[id] = value;
    }
  }
  return config;
}

// One frame a series. As in Grafana's panel what is not finite is a gap in a line: one NaN would leave its axis without a range.
function frames(panel) {
  const number = (text) => (panel.type === "timeseries" && !Number.isFinite(Number(text)) ? null : Number(text));
  let index = 0;
  return panel.targets.flatMap((target, at) =>
    (answers[panel.id][at] ?? []).map((series) => {
      const name = legend(target, series.metric);
      const points = series.values ?? [series.value];
      const frame = toDataFrame({
        refId: target.refId,
        fields: [
          { name: "Time", type: FieldType.time, values: points.map(([time]) => time * 1000), config: {} },
          { name: "Value", type: FieldType.number, labels: series.metric, values: points.map(([, value]) => number(value)), config: settings(panel, name) },
        ],
      });
      const field = frame.fields[1];
      const { min, max } = reduceField({ field, reducers: ["min", "max"] });
      field.state = { displayName: name, seriesIndex: index++, range: { min, max, delta: max - min } };
      field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
      return frame;
    }),
  );
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const width = w * COLUMN - GAP, height = h * ROW - GAP;
  return (
    <div id={`panel-${panel.id}`} style={{ position: "absolute", left: x * COLUMN, top: 48 + y * ROW }}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding="md">
        {(innerWidth, innerHeight) => <Content panel={panel} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

function Content({ panel, width, height }) {
  if (panel.type === "table") return <Rows panel={panel} width={width} height={height} />;
  const data = frames(panel);
  if (data.length === 0) return <Empty panel={panel} />;
  if (panel.type === "timeseries") return <Lines panel={panel} data={data} width={width} height={height} />;
  const values = data.map((frame) => {
    const field = frame.fields[1];
    const calc = panel.options.reduceOptions.calcs[0];
    return { field, frame, value: field.display(reduceField({ field, reducers: [calc] })[calc]), name: field.state.displayName };
  });
  if (panel.type === "stat") {
    const side = Math.floor(width / values.length);
    return (
      <div style={{ display: "flex" }}>
        {values.map(({ field, frame, value, name }, index) => {
          const points = field.values.length > 1 && panel.options.graphMode === "area";
          const sparkline = points ? { x: frame.fields[0], y: field } : undefined;
          const shown = values.length > 1 ? { ...value, title: name } : value;
          return <BigValue key={index} value={shown} sparkline={sparkline} theme={theme} width={side} height={height} colorMode={panel.options.colorMode} graphMode={panel.options.graphMode} justifyMode="auto" />;
        })}
      </div>
    );
  }
  if (panel.type === "gauge") {
    const side = Math.floor(width / values.length);
    return (
      <div style={{ display: "flex" }}>
        {values.map(({ field, value, name }) => (
          <Arc key={name} value={value} config={field.config} name={values.length > 1 ? name : undefined} width={side} height={height} />
        ))}
        <div style={NOTE}>stand-in for Grafana&apos;s gauge</div>
      </div>
    );
  }
  // Without a limit of its own a bar is compared with the longest.
  const longest = Math.max(...values.map(({ value }) => value.numeric));
  for (const { field } of values) Object.assign(field.config, { min: field.config.min ?? 0, max: field.config.max ?? longest });
  const alignment = getDisplayValueAlignmentFactors(values.map(({ value, name }) => ({ display: { ...value, title: name } })));
  const each = Math.min(Math.floor((height - 16) / values.length), 90);
  return values.map(({ field, value, name }, index) => (
    <BarGauge key={index} value={{ ...value, title: name }} field={field.config} display={field.display} theme={theme} width={width} height={each} orientation="horizontal" displayMode="gradient" text={{ titleSize: 12, valueSize: 16 }} itemSpacing={8} alignmentFactors={alignment} />
  ));
}

function Empty({ panel }) {
  return <div style={{ padding: 16, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? "No data"}</div>;
}

function Lines({ panel, data, width, height }) {
  const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: "now-1h", to: "now" } };
  return <TimeSeries frames={data} timeRange={range} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={panel.options} structureRev={1} />;
}

// The value on an arc of 240 degrees, around it the colours of the thresholds.
function Arc({ value, config, name, width, height }) {
  const { min, max, thresholds } = config;
  const radius = Math.min(width / 2 - 8, (height - 48) / 1.5), band = radius / 5, ring = Math.max(radius / 28, 2);
  const centre = { x: width / 2, y: (height - 24) / 2 + radius / 4 };
  const point = (share, r) => {
    const angle = ((share * 240 - 210) * Math.PI) / 180;
    return `${centre.x + r * Math.cos(angle)} ${centre.y + r * Math.sin(angle)}`;
  };
  const share = (number) => Math.min(Math.max((number - min) / (max - min), 0), 1);
  const arc = (start, end, r, color, thickness) => {
    const path = `M ${point(start, r)} A ${r} ${r} 0 ${end - start > 0.75 ? 1 : 0} 1 ${point(end, r)}`;
    return <path key={`${r} ${start}`} d={path} fill="none" stroke={theme.visualization.getColorByName(color)} strokeWidth={thickness} />;
  };
  const steps = thresholds.steps.map((step, index) => {
    return arc(share(step.value), share(thresholds.steps[index + 1]?.value ?? max), radius, step.color, ring);
  });
  const inner = radius - ring * 1.5 - band / 2;
  const text = { x: centre.x, style: { textAnchor: "middle", fontFamily: theme.typography.fontFamily } };
  return (
    <svg width={width} height={height}>
      {steps}
      {arc(0, 1, inner, theme.colors.background.secondary, band)}
      {arc(0, share(value.numeric), inner, value.color, band)}
      <text {...text} y={centre.y + radius / 12} fontSize={radius / 3.5} fontWeight={500} fill={value.color}>{formattedValueToString(value)}</text>
      {name && <text {...text} y={centre.y + radius * 0.75} fontSize={12} fill={theme.colors.text.primary}>{name}</text>}
    </svg>
  );
}

// One row a series: its labels and its value, named and left out as the panel's transformation says.
function Rows({ panel, width, height }) {
  const series = answers[panel.id].flat();
  if (series.length === 0) return <Empty panel={panel} />;
  const { excludeByName, renameByName } = panel.transformations.find(({ id }) => id === "organize").options;
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const columns = [
    { name: "Time", type: FieldType.time, values: series.map(({ value }) => value[0] * 1000), config: {} },
    ...labels.map((label) => ({ name: label, type: FieldType.string, values: series.map(({ metric }) => metric[label] ?? ""), config: {} })),
    { name: "Value", type: FieldType.number, values: series.map(({ value }) => Number(value[1])), config: settings(panel) },
  ];
  const shown = columns.filter(({ name }) => !excludeByName[name]);
  const frame = toDataFrame({ fields: shown.map((field) => ({ ...field, name: renameByName[field.name] ?? field.name })) });
  for (const field of frame.fields) {
    field.config = { ...field.config, custom: {} };
    field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
  }
  return <TableNG data={frame} width={width} height={height} cellHeight={panel.options.cellHeight} enableVirtualization={false} structureRev={1} />;
}

function Dashboard() {
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary, position: "absolute", inset: 0, fontFamily: theme.typography.fontFamily, fontSize: 14, padding: GAP }}>
        <h2 style={{ margin: 4, fontSize: 20 }}>{dashboard.title}</h2>
        {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
      </div>
    </ThemeContext.Provider>
  );
}

// Whether anything but the grey of axes is on a canvas.
function coloured(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue, alpha] = data.subarray(at, at + 4);
    if (alpha > 64 && Math.max(red, green, blue) - Math.min(red, green, blue) > 48) return true;
  }
  return false;
}

// What is wrong with a panel as it was drawn.
function fault(panel) {
  const drawn = document.getElementById(`panel-${panel.id}`);
  if (!drawn) return "is not drawn";
  const text = drawn.innerText.replace(panel.title, "").trim();
  if (/NaN|Infinity|undefined|\[object/.test(text)) return `shows ${text}`;
  if (answers[panel.id].flat().length === 0) return absent.includes(panel.id) ? undefined : `shows ${text} in place of data`;
  if (panel.type !== "timeseries") return /\d/.test(text) ? undefined : `shows ${text || "nothing"} in place of a number`;
  return [...drawn.querySelectorAll("canvas")].some(coloured) ? undefined : "shows no line";
}

function report() {
  for (const panel of dashboard.panels) {
    const found = fault(panel);
    if (found) problems.push(`${panel.title} ${found}`);
  }
  const list = document.createElement("pre");
  list.id = "problems";
  list.hidden = true;
  list.textContent = problems.map((problem) => problem.replaceAll(/\s+/g, " ")).join("\n");
  document.body.append(list);
}

window.addEventListener("error", ({ message }) => problems.push(message));
window.addEventListener("unhandledrejection", ({ reason }) => problems.push(String(reason)));
const onUncaughtError = (error) => problems.push(String(error));
createRoot(document.getElementById("dashboard"), { onUncaughtError }).render(<Dashboard />);
// The components measure themselves first. Time is virtual.
setTimeout(report, 4000);
