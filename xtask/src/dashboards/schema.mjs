// Prints the JSON schemas of a classic dashboard and of its panels, made from the types of @grafana/schema in node_modules.
// Unknown keys are refused; nothing is required, since Grafana fills in what is left out.
import { readFileSync } from "node:fs";
import { createGenerator } from "ts-json-schema-generator";

const PACKAGE = "node_modules/@grafana/schema";
const PANELS = ["bargauge", "gauge", "stat", "table", "timeseries"];

function schema(path, type) {
  const source = `${PACKAGE}/dist/types/raw/${path}/x/types.gen.d.ts`;
  if (!new RegExp(`export (interface|type) ${type}\\b`).test(readFileSync(source, "utf8"))) return false;
  const settings = { path: source, type, skipTypeCheck: true, expose: "none", topRef: false, jsDoc: "none" };
  const made = createGenerator({ ...settings, additionalProperties: false }).createSchema(type);
  return JSON.parse(JSON.stringify(made, (key, value) => (key === "required" && Array.isArray(value) ? undefined : value)));
}

const { version } = JSON.parse(readFileSync(`${PACKAGE}/package.json`, "utf8"));
const panel = (kind) => {
  const path = `composable/${kind}/panelcfg`;
  return { options: schema(path, "Options"), custom: schema(path, "FieldConfig") };
};
const panels = Object.fromEntries(PANELS.map((kind) => [kind, panel(kind)]));
const license = "made from @grafana/schema, Copyright Grafana Labs, Apache-2.0";
const schemas = { license, version, dashboard: schema("dashboard", "Dashboard"), panels };
console.log(JSON.stringify(schemas, null, 1));
