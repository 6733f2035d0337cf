//! `collectors`: the table of collectors and their families. `docs/collectors.md` is its output.

use std::fmt::Write;

use crate::collectors;
use crate::sql::{Cost, PgCollector, Scope};

/// The table, as Markdown.
pub(super) fn markdown() -> String {
    let mut out = String::from(
        "# Collectors and families of pg-exporter\n\n\
         Written by `cargo xtask docs`. Names are those of the default, `--compat=0.20`. Each collector is switched by\n\
         `--collector.NAME` and `--no-collector.NAME`. Scope *database* is read in the connected database, in all others,\n\
         too, with `--databases=all`. Cost is *low*: the same few rows on every server; a row for each of the things\n\
         named; or *high*, with the reason.\n",
    );
    for default in [true, false] {
        let heading = if default { "On by default" } else { "Off by default" };
        let _ = write!(
            out,
            "\n## {heading}\n\n| collector | reads | scope | cost | family | type | what it is |\n|---|---|---|---|---|---|---|\n"
        );
        for collector in collectors::ALL.iter().filter(|collector| collector.spec.default_enabled == default)
        {
            let mut about = about(collector);
            let mut families: Vec<_> =
                collector.queries.iter().flat_map(|query| query.families(None)).collect();
            families.sort_by(|a, b| a.name.cmp(&b.name));
            families.dedup_by(|a, b| a.name == b.name);
            let none = families.is_empty();
            for family in families {
                let kind = family.kind.text();
                let help = family.help.replace('|', "\\|");
                let _ = writeln!(out, "| {about} | `{}` | {kind} | {help} |", family.name);
                about = " | | | ".to_owned();
            }
            if none {
                let _ = writeln!(out, "| {about} | | | |");
            }
        }
    }
    out
}

/// The columns on a collector.
fn about(collector: &PgCollector) -> String {
    let scope = match collector.scope {
        Scope::Server => "server",
        Scope::Database => "database",
    };
    let cost = match collector.cost {
        Cost::Low => "low".to_owned(),
        Cost::Grows(things) => things.to_owned(),
        Cost::High(reason) => format!("high: {reason}"),
    };
    format!("`{}` | {} | {scope} | {cost}", collector.spec.name, collector.spec.doc)
}
