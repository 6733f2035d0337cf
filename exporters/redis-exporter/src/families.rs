//! The table of all families for the documentation, made from what the collectors declare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use exposition::Desc;

use crate::address::{Address, Credentials, TlsFiles};
use crate::connection::Target;
use crate::exporter::Exporter;
use crate::options::{ClientGroups, Features, KeyArg, Options, SamplerOptions, Script};

/// Families by name: type, help, and the flag that they need.
type Families = BTreeMap<String, (Desc, &'static str)>;

/// What is described with these options.
fn declared(mut options: Options) -> anyhow::Result<Vec<Desc>> {
    let record = Arc::new(Mutex::default());
    options.record = Some(Arc::clone(&record));
    let options = Arc::new(options);
    let address = Address::parse("localhost", &Credentials::default(), &TlsFiles::default())?;
    let target = Arc::new(Target::new(address, Arc::clone(&options), true));
    drop(Exporter::new(Some(target), options)?);
    let descs = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(descs)
}

/// Each flag that brings families, and the features that it switches on.
fn flags() -> Vec<(&'static str, Features)> {
    let keys = || vec![KeyArg { database: 0, key: "k".to_owned() }];
    let script = Script { name: String::new(), text: String::new() };
    let insight = SamplerOptions { insight: true, ..SamplerOptions::default() };
    let off = Features::default;
    vec![
        ("", off()),
        ("-check-keys, -check-single-keys", Features { keys: keys(), ..off() }),
        ("-check-streams, -check-single-streams", Features { streams: keys(), ..off() }),
        ("-count-keys", Features { count: keys(), ..off() }),
        ("-script", Features { scripts: vec![script], ..off() }),
        ("-export-client-list", Features { clients: true, ..off() }),
        ("-include-modules-metrics", Features { modules: true, ..off() }),
        ("--client-groups", Features { client_groups: Some(ClientGroups::default()), ..off() }),
        ("--key-insight or a pattern", Features { sampler: Some(insight), ..off() }),
    ]
}

/// The table in Markdown.
///
/// # Errors
/// An exporter cannot be made.
pub fn table() -> anyhow::Result<String> {
    let mut families = Families::new();
    for (flag, features) in flags() {
        for desc in declared(Options { features, ..Options::default() })? {
            families.entry(desc.name.to_string()).or_insert((desc, flag));
        }
    }
    let mut table = "| family | type | what | with |\n|---|---|---|---|\n".to_owned();
    for (name, (desc, flag)) in families {
        let help = desc.help.replace('|', "\\|");
        let _ = writeln!(table, "| `{name}` | {} | {help} | {flag} |", desc.kind.text());
    }
    Ok(table)
}
