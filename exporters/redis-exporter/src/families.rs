//! `docs/redis-families.md`: the table of all families, made from what the collectors declare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use exposition::Desc;

use crate::address::{Address, Credentials, TlsFiles};
use crate::cluster::{self, Cluster};
use crate::connection::Target;
use crate::exporter::Exporter;
use crate::lua_pattern::Pattern;
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
    if options.features.whole_cluster {
        let (seeds, request_errors) = (vec![target.address().clone()], Arc::default());
        let settings = cluster::Settings {
            seeds,
            options,
            client_name: true,
            by_hostname: false,
            max_series: None,
            request_errors,
        };
        drop(Cluster::new(settings, |_| {})?);
    } else {
        drop(Exporter::new(Some(target), options)?);
    }
    let descs = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(descs)
}

/// Each flag that brings families, and the options that it means.
fn flags() -> anyhow::Result<Vec<(&'static str, Options)>> {
    let keys = || vec![KeyArg { database: 0, key: "k".to_owned() }];
    let script = Script { name: String::new(), text: String::new() };
    let insight = SamplerOptions { insight: true, ..SamplerOptions::default() };
    let groups = Pattern::parse_list("a")?;
    let indexes = regex::Regex::new("")?;
    let base = Options::default;
    let off = Features::default;
    let with = |features| Options { features, ..Options::default() };
    Ok(vec![
        ("", base()),
        ("`-include-config-metrics`", Options { include_config: true, ..base() }),
        ("`-include-system-metrics`", Options { include_system: true, ..base() }),
        ("`-check-keys`, `-check-single-keys`", with(Features { keys: keys(), ..off() })),
        ("`-check-key-groups`", with(Features { key_groups: groups, ..off() })),
        ("`-check-streams`, `-check-single-streams`", with(Features { streams: keys(), ..off() })),
        ("`-count-keys`", with(Features { count: keys(), ..off() })),
        ("`-script`", with(Features { scripts: vec![script], ..off() })),
        ("`-export-client-list`", with(Features { clients: true, ..off() })),
        ("`-include-modules-metrics`", with(Features { modules: true, ..off() })),
        ("`-include-search-indexes-metrics`", with(Features { search_indexes: Some(indexes), ..off() })),
        ("`-include-rdb-file-size-metric`", with(Features { rdb_file_size: true, ..off() })),
        ("`-include-sentinel-peer-info`", with(Features { sentinel_peers: true, ..off() })),
        ("`-is-tile38`", with(Features { tile38: true, ..off() })),
        ("`-ping-on-connect`", with(Features { ping: true, ..off() })),
        ("`--cluster`", with(Features { whole_cluster: true, ..off() })),
        ("`--client-groups`", with(Features { client_groups: Some(ClientGroups::default()), ..off() })),
        ("`--key-insight` or a pattern", with(Features { sampler: Some(insight), ..off() })),
    ])
}

/// The page in Markdown.
///
/// # Errors
/// An exporter cannot be made.
pub fn page() -> anyhow::Result<String> {
    let mut families = Families::new();
    for (flag, options) in flags()? {
        for desc in declared(options)? {
            families.entry(desc.name.to_string()).or_insert((desc, flag));
        }
    }
    let mut page = "# Families of redis-exporter\n\n\
        Written by `cargo xtask docs`. Those without an option in the last column are always there, where the server has\n\
        what they say; prefix by `-namespace`. Families `redis_cluster_*` beside these are the fields of CLUSTER INFO under\n\
        their own names.\n\n\
        | family | type | what | with |\n|---|---|---|---|\n"
        .to_owned();
    for (name, (desc, flag)) in families {
        let help = desc.help.replace('|', "\\|");
        let _ = writeln!(page, "| `{name}` | {} | {help} | {flag} |", desc.kind.text());
    }
    Ok(page)
}
