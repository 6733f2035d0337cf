//! A definition as it works: with what was left out filled in, without secrets, in the words of the file.

use serde_json::{Map, Value, json};

use super::{
    Definition, Definitions, Emission, EventDefinition, EventEmission, FamilyDefinition, Init,
    QueryDefinition, Schedule, StockDefinition, Values,
};
use crate::domain::Domain;

/// A map of the keys that have a value.
fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let has_value = |value: &Value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let entries = entries.into_iter().filter(|(_, value)| has_value(value));
    Value::Object(entries.map(|(key, value)| (key.to_owned(), value)).collect())
}

impl Definitions {
    /// The definition as a file would have it.
    pub fn effective(&self) -> Value {
        let all = || self.databases.iter();
        let databases = all().map(|definition| json!(definition.database)).collect();
        let events =
            all().flat_map(|one| one.events.iter().map(|event| of(one, event_keys(event)))).collect();
        let stocks =
            all().flat_map(|one| one.stocks.iter().map(|stock| of(one, stock_keys(stock)))).collect();
        let queries =
            all().flat_map(|one| one.queries.iter().map(|query| of(one, query_keys(query)))).collect();
        let first = self.databases.first();
        map([
            ("version", json!(1)),
            ("databases", databases),
            ("const_labels", json!(self.const_labels)),
            ("defaults", json!(first.map(|definition| definition.defaults))),
            ("counters", json!(first.map(|definition| &definition.counters))),
            ("families", self.families.values().map(|family| family_keys(family)).collect()),
            ("events", events),
            ("stocks", stocks),
            ("queries", queries),
        ])
    }
}

/// With the database that it is for.
fn of<'a>(definition: &Definition, keys: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    map(keys.into_iter().chain([("database", json!(definition.database.name))]))
}

fn family_keys(family: &FamilyDefinition) -> Value {
    let labels: Map<String, Value> =
        family.labels.iter().map(|(name, label)| (name.clone(), domain(label.domain()))).collect();
    let init = family.init.map(|init| match init {
        Init::Observed => "observed",
        Init::Zero => "zero",
    });
    map([
        ("name", json!(*family.desc.name)),
        ("type", json!(family.type_name())),
        ("help", json!(*family.desc.help)),
        ("unit", json!(family.desc.unit.as_deref())),
        ("labels", Value::Object(labels)),
        ("init", json!(init)),
        ("buckets", json!(family.buckets)),
        ("states", json!(family.states)),
        ("append_only", json!(family.append_only.then_some(true))),
    ])
}

fn domain(domain: &Domain) -> Value {
    map([
        ("values", json!(domain.values)),
        ("enum", json!(domain.enum_type)),
        ("max", json!(domain.max)),
        ("other", json!(domain.other)),
    ])
}

fn event_keys(event: &EventDefinition) -> [(&'static str, Value); 6] {
    [
        ("name", json!(event.name)),
        ("table", json!(event.source())),
        ("key", json!(event.key)),
        ("on", json!(event.on.as_str())),
        ("when", json!(event.when)),
        ("emit", event.emit.iter().map(event_emission).collect()),
    ]
}

fn event_emission(emission: &EventEmission) -> Value {
    let labels = emission.family.labels.keys().cloned().zip(emission.labels.iter().map(|label| json!(label)));
    let value = if emission.family.buckets.is_empty() { "add" } else { "value" };
    map([
        ("family", json!(*emission.family.desc.name)),
        ("when", json!(emission.when)),
        ("labels", Value::Object(labels.collect())),
        (value, json!(emission.value)),
    ])
}

fn stock_keys(stock: &StockDefinition) -> [(&'static str, Value); 5] {
    let (schema, table) = &stock.table;
    [
        ("table", json!(format!("{schema}.{table}"))),
        ("by", json!(stock.by)),
        ("created", json!(stock.created)),
        ("moved", json!(stock.moved)),
        ("deleted", json!(stock.deleted)),
    ]
}

fn query_keys(query: &QueryDefinition) -> Vec<(&'static str, Value)> {
    let duration = |duration| json!(exporter_kit::config::GoDuration(duration));
    let schedule = query.schedule.as_ref().map(Schedule::written);
    [
        ("name", json!(query.name)),
        ("requires", json!(query.requires)),
        ("sql", json!(query.sql)),
        ("timeout", duration(query.timeout)),
        ("lock_timeout", duration(query.lock_timeout)),
        ("max_rows", json!(query.max_rows)),
        ("max_series", json!(query.max_series)),
        ("max_cost", json!(query.max_cost)),
        ("null_value", json!(query.null_value)),
        ("emit", query.emit.iter().map(query_emission).collect()),
    ]
    .into_iter()
    .chain(schedule.map(|(key, value)| (key, json!(value))))
    .collect()
}

fn query_emission(emission: &Emission) -> Value {
    let labels = emission.labels.iter().map(|(label, column)| json!({ label: column })).collect();
    let fixed = emission.static_labels.iter().map(|(label, value)| (label.clone(), json!(value))).collect();
    let values = match &emission.values {
        Values::Column(column) => vec![("value", json!(column))],
        Values::Pivot { label, columns } => vec![("pivot", json!({ "label": label, "columns": columns }))],
        Values::Buckets { le, count, sum } => {
            vec![("le", json!(le)), ("count", json!(count)), ("sum", json!(sum))]
        }
        Values::State(column) => vec![("state", json!(column))],
        Values::Info => Vec::new(),
    };
    let keys = [
        ("family", json!(*emission.family.desc.name)),
        ("when", json!(emission.when)),
        ("labels", labels),
        ("static_labels", Value::Object(fixed)),
    ];
    map(keys.into_iter().chain(values))
}
