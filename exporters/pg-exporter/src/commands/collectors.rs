//! `collectors`: the table of collectors and their families. `docs/collectors.md` is its output.

use std::fmt::Write;

use crate::collectors;

/// The table, as Markdown.
pub(super) fn markdown() -> String {
    let mut out = String::from(
        "# Collectors and families of pg-exporter\n\n\
         Written by `cargo xtask docs`. Names are those of the default, `--compat=0.20`. Each collector is switched by\n\
         `--collector.NAME` and `--no-collector.NAME`.\n",
    );
    for default in [true, false] {
        let heading = if default { "On by default" } else { "Off by default" };
        let _ = write!(
            out,
            "\n## {heading}\n\n| collector | reads | family | type | what it is |\n|---|---|---|---|---|\n"
        );
        for collector in collectors::ALL.iter().filter(|collector| collector.spec.default_enabled == default)
        {
            let (mut name, mut doc) = (format!("`{}`", collector.spec.name), collector.spec.doc);
            let mut families: Vec<_> =
                collector.queries.iter().flat_map(|query| query.families(None)).collect();
            families.sort_by(|a, b| a.name.cmp(&b.name));
            families.dedup_by(|a, b| a.name == b.name);
            for family in families {
                let kind = family.kind.text();
                let help = family.help.replace('|', "\\|");
                let _ = writeln!(out, "| {name} | {doc} | `{}` | {kind} | {help} |", family.name);
                (name, doc) = (String::new(), "");
            }
            if !name.is_empty() {
                let _ = writeln!(out, "| {name} | {doc} | | | |");
            }
        }
    }
    out
}
