//! `--dumpmaps`: the families that carry a `server` label, and those of the user's queries with the meaning of their
//! columns.

use std::fmt::Write;

use exporter_kit::app::{Failure, OrFailure};

use super::print;
use crate::cli::Cli;
use crate::collectors;
use crate::exporter::user_queries;

/// Prints them.
///
/// # Errors
/// A file of queries that cannot be used.
pub fn dump_maps(cli: &Cli) -> Result<(), Failure> {
    let options = cli.options();
    let queries = user_queries(cli).or_misconfigured()?;
    let mut out = String::new();
    for collector in collectors::ALL.iter().filter(|collector| collector.is_default_metric(options.compat)) {
        let families = collector.queries.iter().flat_map(|query| query.families(None));
        let families: Vec<_> = families.filter(|family| !options.leaves_out(&family.name)).collect();
        if families.is_empty() {
            continue;
        }
        let _ = writeln!(out, "{}", collector.spec.name);
        for family in families {
            let name = options.prefixed(&family.name).unwrap_or_else(|| family.name.to_string());
            let _ = writeln!(out, "  {name} {} {}", family.kind.text(), family.help);
        }
        out.push('\n');
    }
    for namespace in queries.namespaces() {
        let name = options.prefixed(&namespace.name).unwrap_or_else(|| namespace.name.clone());
        let _ = writeln!(out, "{name} {}", namespace.sql);
        for column in &namespace.columns {
            let _ = writeln!(out, "  {} {:?} {}", column.name, column.usage, column.description);
        }
        out.push('\n');
    }
    print(&out);
    Ok(())
}
