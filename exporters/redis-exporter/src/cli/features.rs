//! Flags of the features that cost more than the default scrape, of the listener and of `/scrape`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{ArgAction, Args};
use exporter_kit::config::Secret;
use exporter_kit::web_config::{ClientAuth, Settings, TlsSettings};
use regex::Regex;

use super::insight::InsightArgs;
use crate::lua_pattern::Pattern;
use crate::options::{Features, KeyArg, Script};

/// See the module.
#[derive(Clone, Debug, Args)]
pub(super) struct FeatureArgs {
    /// Keys by pattern, [dbN=]PATTERN,…: type, memory, size and value of each; costs a SCAN of the database
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    check_keys: String,
    /// Keys by name, [dbN=]KEY,…
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    check_single_keys: String,
    /// Lua patterns that group keys, separated by commas; costs a SCAN of every database
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    check_key_groups: String,
    /// Key groups of a database before the rest is one group
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_distinct_key_groups: usize,
    /// Streams by pattern
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    check_streams: String,
    /// Streams by name
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    check_single_streams: String,
    /// Leave the consumers of stream groups out
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    streams_exclude_consumer_metrics: bool,
    /// Number of keys by pattern; costs a SCAN of the database
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    count_keys: String,
    /// Keys that one SCAN looks at
    #[arg(long, value_name = "N", default_value_t = 1000)]
    check_keys_batch_size: u32,
    /// Leave the values of checked keys out
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    disable_exporting_key_values: bool,
    /// Check no keys and streams unless the server is a replica
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    skip_checkkeys_for_role_master: bool,
    /// Lua files to run, separated by commas, that return names and numbers
    #[arg(long, value_name = "FILES", default_value = "", hide_default_value = true)]
    script: String,
    /// Run them with EVAL_RO
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    lua_script_read_only: bool,
    /// Each client of the server
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    export_client_list: bool,
    /// The port of each client as a label
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    export_client_port: bool,
    #[command(flatten)]
    insight: InsightArgs,
    /// The modules of the server
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    include_modules_metrics: bool,
    /// The search indexes of the server
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    include_search_indexes_metrics: bool,
    /// Only search indexes whose name matches
    #[arg(long, value_name = "REGEX", default_value = ".*")]
    check_search_indexes: String,
    /// The other sentinels of each master
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    include_sentinel_peer_info: bool,
    /// Size of the RDB file, when it is on this machine
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    include_rdb_file_size_metric: bool,
    /// The server is Tile38
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    is_tile38: bool,
    /// The server is a node of a cluster: /discover-cluster-nodes answers
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    is_cluster: bool,
    /// Every node of the cluster on one page, each with its labels
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    cluster: bool,
    /// More nodes of the cluster, separated by commas, to ask for all others when that of --url does not answer
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cluster_seeds: Vec<String>,
    /// Nodes of a cluster by the names that they announce
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    cluster_discover_hostnames: bool,
    /// PING after connecting, and how long it took
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    ping_on_connect: bool,
    /// Accepted for compatibility: there is no Go runtime here
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false, hide = true)]
    include_go_runtime_metrics: bool,
    /// Name that the server's certificate must hold, instead of the host's
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    tls_server_name: String,
    /// YAML file of targets that /scrape may reach, and the credentials for them and for --url
    #[arg(long = "targets.file", value_name = "FILE")]
    targets_file: Option<PathBuf>,
    /// Targets of /scrape whose connections are kept
    #[arg(long = "scrape.max-targets", value_name = "N", default_value_t = 1000)]
    max_targets: usize,
    /// Targets of /scrape that are scraped at once; more wait
    #[arg(long = "scrape.concurrency", value_name = "N", default_value_t = 64)]
    concurrency: usize,
    /// Do not answer /scrape
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    disable_scrape_endpoint: bool,
    /// Certificate of the listener
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    tls_server_cert_file: String,
    /// Its key
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    tls_server_key_file: String,
    /// Authorities that sign the certificates clients must show to the listener
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    tls_server_ca_cert_file: String,
    /// Oldest TLS version of the listener
    #[arg(long, value_name = "VERSION", default_value = "TLS1.2")]
    tls_server_min_version: String,
    /// User that the listener asks for
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    basic_auth_username: String,
    /// Its password; better the hash, or from REDIS_EXPORTER_BASIC_AUTH_PASSWORD
    #[arg(long, value_name = "PASSWORD", hide_default_value = true)]
    basic_auth_password: Option<Secret>,
    /// The bcrypt hash of its password
    #[arg(long, value_name = "HASH", hide_default_value = true)]
    basic_auth_hash_password: Option<Secret>,
}

/// A flag's text, unless it is empty.
fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn path(text: &str) -> Option<PathBuf> {
    given(text).map(PathBuf::from)
}

fn not_empty(secret: Option<&Secret>) -> anyhow::Result<Option<Secret>> {
    let Some(secret) = secret else { return Ok(None) };
    Ok((!secret.reveal()?.is_empty()).then(|| secret.clone()))
}

impl FeatureArgs {
    /// What the features look at.
    ///
    /// # Errors
    /// A list that cannot be read, a script that is not there.
    pub(super) fn features(&self, compat: bool) -> anyhow::Result<Features> {
        let keys = |flag: &str, text: &str| {
            KeyArg::parse_list(text).map_err(|error| anyhow::anyhow!("-{flag}: {error}"))
        };
        let scripts = self.script.split(',').filter(|name| !name.is_empty()).map(|name| {
            let text =
                std::fs::read_to_string(name).with_context(|| format!("-script: cannot read {name}"))?;
            Ok(Script { name: name.to_owned(), text })
        });
        let indexes = self.include_search_indexes_metrics.then(|| Regex::new(&self.check_search_indexes));
        let indexes = indexes.transpose().context("-check-search-indexes")?;
        let (patterns, mut single) = split(keys("check-keys", &self.check_keys)?);
        single.extend(keys("check-single-keys", &self.check_single_keys)?);
        let (stream_patterns, mut streams) = split(keys("check-streams", &self.check_streams)?);
        streams.extend(keys("check-single-streams", &self.check_single_streams)?);
        let lists = [&self.check_keys, &self.check_single_keys, &self.check_key_groups, &self.check_streams];
        let lists = lists.into_iter().chain([&self.check_single_streams, &self.count_keys]);
        let one_node = self.is_cluster && !self.cluster && lists.into_iter().any(|list| !list.is_empty());
        Ok(Features {
            patterns,
            keys: single,
            key_values: !self.disable_exporting_key_values,
            stream_patterns,
            streams,
            stream_consumers: !self.streams_exclude_consumer_metrics,
            count: keys("count-keys", &self.count_keys)?,
            key_groups: Pattern::parse_list(&self.check_key_groups).context("-check-key-groups")?,
            max_key_groups: self.max_distinct_key_groups,
            batch: self.check_keys_batch_size.max(1),
            sampler: self.insight.sampler(compat || (self.is_cluster && !self.cluster)),
            only_replicas: self.skip_checkkeys_for_role_master,
            scripts: scripts.collect::<anyhow::Result<_>>()?,
            scripts_read_only: self.lua_script_read_only,
            clients: self.export_client_list,
            client_port: self.export_client_port,
            client_groups: self.insight.client_groups(),
            modules: self.include_modules_metrics,
            search_indexes: indexes,
            sentinel_peers: self.include_sentinel_peer_info,
            rdb_file_size: self.include_rdb_file_size_metric,
            tile38: self.is_tile38,
            ping: self.ping_on_connect,
            whole_cluster: self.cluster || one_node,
            one_node,
            lists_nodes: self.is_cluster,
        })
    }

    /// TLS and users of the listener; `None` when no flag asks for either.
    ///
    /// # Errors
    /// Flags that go together and do not, or exclude each other.
    pub(super) fn web_settings(&self) -> anyhow::Result<Option<Settings>> {
        let mut settings =
            Settings { realm: Some("redis-exporter, charset=UTF-8".to_owned()), ..Settings::default() };
        match (path(&self.tls_server_cert_file), path(&self.tls_server_key_file)) {
            (Some(certificate), Some(key)) => {
                let ca = path(&self.tls_server_ca_cert_file);
                let version = match self.tls_server_min_version.as_str() {
                    // Neither is spoken here: 1.2 is the oldest.
                    "TLS1.0" | "TLS1.1" => "TLS1.2",
                    other => other,
                };
                let version = version
                    .parse()
                    .map_err(|error: String| anyhow::anyhow!("-tls-server-min-version: {error}"))?;
                settings.tls_server_config = Some(TlsSettings {
                    cert_file: Some(certificate),
                    key_file: Some(key),
                    client_auth_type: if ca.is_some() {
                        ClientAuth::RequireAndVerifyClientCert
                    } else {
                        ClientAuth::NoClientCert
                    },
                    client_ca_file: ca,
                    min_version: Some(version),
                    ..TlsSettings::default()
                });
            }
            (None, None) => {}
            _ => bail!("-tls-server-cert-file and -tls-server-key-file go together: give both or none"),
        }
        let plain = not_empty(self.basic_auth_password.as_ref())?;
        let hash = not_empty(self.basic_auth_hash_password.as_ref())?;
        match (given(&self.basic_auth_username), plain, hash) {
            (_, Some(_), Some(_)) => {
                bail!("-basic-auth-password and -basic-auth-hash-password exclude each other: give one")
            }
            (Some(user), Some(password), None) => drop(settings.plain_users.insert(user, password)),
            (Some(user), None, Some(hash)) => drop(settings.basic_auth_users.insert(user, hash)),
            _ => {}
        }
        let any = settings.tls_server_config.is_some()
            || !settings.plain_users.is_empty()
            || !settings.basic_auth_users.is_empty();
        Ok(any.then_some(settings))
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// More nodes to ask for all others.
    pub(super) fn cluster_seeds(&self) -> &[String] {
        &self.cluster_seeds
    }

    pub(super) fn discover_hostnames(&self) -> bool {
        self.cluster_discover_hostnames
    }

    pub(super) fn tls_server_name(&self) -> Option<String> {
        given(&self.tls_server_name)
    }

    pub(super) fn targets_file(&self) -> Option<&PathBuf> {
        self.targets_file.as_ref()
    }

    pub(super) fn max_targets(&self) -> usize {
        self.max_targets
    }

    pub(super) fn concurrency(&self) -> usize {
        self.concurrency
    }

    pub(super) fn scrape_endpoint(&self) -> bool {
        !self.disable_scrape_endpoint
    }
}

/// Patterns, and what is a name because it holds no sign of a pattern.
pub(crate) fn split(keys: Vec<KeyArg>) -> (Vec<KeyArg>, Vec<KeyArg>) {
    keys.into_iter().partition(|key| key.key.contains(['?', '*', '[', ']', '^']))
}
