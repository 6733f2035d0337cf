//! The reference of all keys of a definition, made from the types that read it.

use std::fmt::Write;

use schemars::schema_for;
use serde_json::{Map, Value};

use crate::definition::File;

const HEAD: &str = "# Keys of a definition

Made from the types that read it by `cargo xtask docs`. A key that is not here is an error, shown with its line and column.
Durations are `250ms`, `10s`, `5m`, `1h`. [business-exporter](business-exporter.md) explains.

| key | value | default | meaning |
|---|---|---|---|
";

/// The page.
pub fn reference() -> String {
    let schema = schema_for!(File);
    let mut page = HEAD.to_owned();
    let walk = Walk { definitions: schema.get("$defs").and_then(Value::as_object) };
    if let Some(root) = schema.as_object() {
        walk.object(root, "", &mut page);
    }
    page
}

struct Walk<'a> {
    definitions: Option<&'a Map<String, Value>>,
}

impl<'a> Walk<'a> {
    /// A row for each property of an object, and for those of what is inside.
    fn object(&self, object: &'a Map<String, Value>, path: &str, page: &mut String) {
        let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
        let required: Vec<&str> = object
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, property) in properties {
            let Some(property) = property.as_object() else { continue };
            let key = format!("{path}{name}");
            let default = match property.get("default") {
                _ if required.contains(&name.as_str()) => "required".to_owned(),
                Some(Value::String(text)) => format!("`{text}`"),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => format!("`{value}`"),
                _ => String::new(),
            };
            let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default();
            let meaning = meaning.replace('\n', " ").replace('|', "\\|");
            // Writing into a String cannot fail.
            let _ = writeln!(page, "| `{key}` | {} | {default} | {meaning} |", self.kind(property));
            for (suffix, inner) in self.inside(property) {
                self.object(inner, &format!("{key}{suffix}."), page);
            }
        }
    }

    /// What a property may hold, without what stands for its absence.
    fn variants(&self, property: &'a Map<String, Value>) -> Vec<&'a Map<String, Value>> {
        let of = |key| property.get(key).and_then(Value::as_array).into_iter().flatten();
        let several: Vec<&Map<String, Value>> =
            of("anyOf").chain(of("oneOf")).chain(of("allOf")).filter_map(Value::as_object).collect();
        if !several.is_empty() {
            return several.into_iter().flat_map(|one| self.variants(one)).collect();
        }
        let target = property.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
        match target.and_then(|name| self.definitions?.get(name)?.as_object()) {
            Some(definition) => self.variants(definition),
            None if property.get("type").and_then(Value::as_str) == Some("null") => Vec::new(),
            None => vec![property],
        }
    }

    /// The objects in a property, with what stands for the way to them.
    fn inside(&self, property: &'a Map<String, Value>) -> Vec<(&'static str, &'a Map<String, Value>)> {
        let mut inside = Vec::new();
        for variant in self.variants(property) {
            if variant.contains_key("properties") {
                inside.push(("", variant));
            }
            for (suffix, key) in [("[]", "items"), (".NAME", "additionalProperties")] {
                let within = variant.get(key).and_then(Value::as_object).map(|inner| self.inside(inner));
                inside.extend(within.into_iter().flatten().map(|(_, object)| (suffix, object)));
            }
        }
        inside
    }

    /// What a value is, in words.
    fn kind(&self, property: &'a Map<String, Value>) -> String {
        let mut kinds: Vec<String> = Vec::new();
        for variant in self.variants(property) {
            let constants = variant
                .get("enum")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .chain(variant.get("const"));
            let constants: Vec<String> =
                constants.filter_map(Value::as_str).map(|constant| format!("`{constant}`")).collect();
            let types = match variant.get("type") {
                Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
                Some(Value::String(kind)) => vec![kind.as_str()],
                _ => Vec::new(),
            };
            let word = types.into_iter().find(|kind| *kind != "null").map(|kind| match kind {
                "string" => "text",
                "integer" | "number" => "number",
                "boolean" => "true or false",
                "array" => "list",
                _ => "map",
            });
            if constants.is_empty() {
                kinds.extend(word.map(str::to_owned));
            } else {
                kinds.extend(constants);
            }
        }
        kinds.dedup();
        kinds.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning() {
        let page = reference();
        for line in [
            "| `defaults.timeout` | text | `3s` | The server cancels",
            "| `counters.mode` | `auto`, `ledger`, `checkpoint`, `snapshot` | `auto` | How",
            "| `families[].labels.NAME.max` | number |  | At most",
            "| `events[].emit[].family` | text | required | The counter",
            "| `queries[].requires.role` | `primary`, `standby` |  | A server",
            "| `databases[].name` | text | `main` | Name",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        let empty: Vec<&str> = page.lines().filter(|line| line.ends_with("|  |")).collect();
        assert!(empty.is_empty(), "without a meaning: {empty:#?}");
    }
}
