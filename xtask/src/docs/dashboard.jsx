// Draws one dashboard with Grafana's own components: what it is and what Prometheus answered is in window.DASHBOARD. Gauge and table
// are not among the components that Grafana publishes: a bar and a plain table stand in for them, and say so.
import React from "react";
import { createRoot } from "react-dom/client";
import {
  createTheme, dateTime, FieldType, getDisplayProcessor, reduceField, ThemeContext, toDataFrame,
} from "@grafana/data";
import { BarGauge, BigValue, GlobalStyles, PanelChrome, TimeSeries } from "@grafana/ui";

const COLUMN = 60, ROW = 36, GAP = 8;
const theme = createTheme({ colors: { mode: "light" } });
const { dashboard, answers, from, to } = window.DASHBOARD;
const STAND_INS = ["gauge", "table"];
const NOTE = { position: "absolute", bottom: 6, right: 10, fontSize: 11, color: theme.colors.text.secondary };
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
  if (config.unit === "percentunit" && panel.type === "gauge") Object.assign(config, { min: config.min ?? 0, max: config.max ?? 1 });
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

// One frame a series.
function frames(panel) {
  let index = 0;
  return panel.targets.flatMap((target, at) =>
    (answers[panel.id][at] ?? []).map((series) => {
      const name = legend(target, series.metric);
      const points = series.values ?? [series.value];
      const frame = toDataFrame({
        refId: target.refId,
        fields: [
          { name: "Time", type: FieldType.time, values: points.map(([time]) => time * 1000), config: {} },
          { name: "Value", type: FieldType.number, labels: series.metric, values: points.map(([, value]) => Number(value)), config: settings(panel, name) },
        ],
      });
      const field = frame.fields[1];
      field.state = { displayName: name, seriesIndex: index++ };
      field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
      return frame;
    }),
  );
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const width = w * COLUMN - GAP, height = h * ROW - GAP;
  return (
    <div style={{ position: "absolute", left: x * COLUMN, top: 48 + y * ROW }}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding="md">
        {(innerWidth, innerHeight) => (
          <>
            <Content panel={panel} width={innerWidth} height={innerHeight} />
            {STAND_INS.includes(panel.type) && <div style={NOTE}>stand-in for Grafana&apos;s {panel.type}</div>}
          </>
        )}
      </PanelChrome>
    </div>
  );
}

function Content({ panel, width, height }) {
  const data = frames(panel);
  if (data.length === 0) return <Empty panel={panel} />;
  if (panel.type === "timeseries") return <Lines panel={panel} data={data} width={width} height={height} />;
  if (panel.type === "table") return <Rows panel={panel} data={data} />;
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
  // Without a limit of its own a bar is compared with the longest.
  const longest = Math.max(...values.map(({ value }) => value.numeric));
  for (const { field } of values) Object.assign(field.config, { min: field.config.min ?? 0, max: field.config.max ?? longest });
  // The name of the only one would leave no room for its bar.
  const named = values.length > 1 || panel.type === "bargauge";
  const each = Math.min(Math.floor((height - 16) / values.length), 90);
  return values.map(({ field, value, name }, index) => (
    <BarGauge key={index} value={{ ...value, title: named ? name : undefined }} field={field.config} display={field.display} theme={theme} width={width} height={each} orientation="horizontal" displayMode="gradient" text={{ titleSize: 12, valueSize: 16 }} itemSpacing={8} />
  ));
}

function Empty({ panel }) {
  return <div style={{ padding: 16, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? "No data"}</div>;
}

function Lines({ panel, data, width, height }) {
  const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: "now-1h", to: "now" } };
  return <TimeSeries frames={data} timeRange={range} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={panel.options} structureRev={1} />;
}

function Rows({ data }) {
  const cell = { textAlign: "left", padding: "4px 12px", borderBottom: `1px solid ${theme.colors.border.weak}` };
  return (
    <table style={{ width: "100%" }}>
      <tbody>
        {data.map((frame, index) => {
          const field = frame.fields[1];
          const { text, suffix = "" } = field.display(field.values[0]);
          return <tr key={index}><td style={cell}>{field.state.displayName}</td><td style={cell}>{text}{suffix}</td></tr>;
        })}
      </tbody>
    </table>
  );
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

createRoot(document.getElementById("dashboard")).render(<Dashboard />);
