//! Flags and environment: ours, and those of redis_exporter for the target, in Go's syntax as well.

mod features;
mod flags;
mod insight;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{ArgAction, Parser, ValueEnum};
use exporter_kit::app::{Web, WebArgs};
use exporter_kit::names::Names;

use self::features::FeatureArgs;
pub(crate) use self::features::split;
use self::flags::normalise;
use crate::address::{Address, Credentials, TlsFiles};
use crate::allowed::Allowed;
use crate::connection::Target;
use crate::options::{Compat, Options};
use crate::{cluster, multi};

/// Prometheus exporter for Redis and Valkey.
#[derive(Clone, Debug, Parser)]
#[command(name = "redis-exporter", version, args_override_self = true)]
pub struct Cli {
    /// What to do instead of serving
    #[arg(value_name = "COMMAND")]
    action: Option<Action>,
    /// With compare: the page of the exporter to replace, http://HOST:PORT/metrics or a file
    #[arg(long, value_name = "URL")]
    old: Option<String>,
    /// List the INFO fields of the server that no family comes from, and end
    #[arg(long)]
    report_unmapped: bool,
    /// The server: host:port, redis://, rediss://, valkey://, valkeys:// or unix:///path; empty for none
    #[arg(long = "url", alias = "redis.addr", value_name = "URL", default_value = "redis://localhost:6379")]
    url: String,
    /// User for AUTH
    #[arg(long = "redis.user", value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// Password for AUTH; better from REDIS_PASSWORD, which no process list shows
    #[arg(long = "redis.password", value_name = "PASSWORD", default_value = "", hide_default_value = true)]
    password: Secret,
    /// JSON file of address to password, read when there is no password
    #[arg(long = "redis.password-file", value_name = "FILE", default_value = "", hide_default_value = true)]
    password_file: String,
    /// Shape of families that redis_exporter has wrong: empty for corrected, 1.86 for its own
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true, value_parser = ["", "1.86"])]
    compat: String,
    /// What families are called whose name promtool check metrics objects to: as in redis_exporter, or clean
    #[arg(long, value_enum, default_value_t)]
    names: Names,
    /// First part of every family's name
    #[arg(long, value_name = "NAME", default_value = "redis")]
    namespace: String,
    /// Name of CONFIG on the server; - to do without
    #[arg(long, value_name = "NAME", default_value = "CONFIG", allow_hyphen_values = true)]
    config_command: String,
    /// Name the connection redis_exporter
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    set_client_name: bool,
    /// Leave the LATENCY commands and their families out
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    exclude_latency_histogram_metrics: bool,
    /// Every configuration parameter as a family
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    include_config_metrics: bool,
    /// Leave secrets out of the configuration families
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    redact_config_metrics: bool,
    /// Leave the families of the exporter's own process and build out
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    redis_only_metrics: bool,
    /// A zero for each database without keys
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    include_metrics_for_empty_databases: bool,
    /// Families about the machine below the server
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    include_system_metrics: bool,
    /// The label instance_role on each family of the server
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    append_instance_role_label: bool,
    /// Trust any certificate of the server
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    skip_tls_verification: bool,
    /// Certificates to trust instead of the system's
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    tls_ca_cert_file: String,
    /// Certificate to show to the server
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    tls_client_cert_file: String,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    tls_client_key_file: String,
    #[command(flatten)]
    features: FeatureArgs,
    /// Web and scrape options.
    #[command(flatten)]
    pub web: WebArgs,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Print the least ACL rule that the options need, for each version of the server
    Acl,
    /// Try each command on the server; tell what is refused and which families that costs
    Check,
    /// Scrape once and print the page
    Once,
    /// Tell which series change when this exporter takes the place of another one
    Compare,
    /// Ask the exporter that runs on this machine with the same web options whether it is well
    Healthcheck,
    /// Print docs/redis-families.md
    #[value(hide = true)]
    Families,
}

/// A password that is never printed.
#[derive(Clone, Default)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

impl Cli {
    /// Parses the process's arguments and environment; ends the process on `--help` and on usage errors (exit code 2).
    pub fn parse_args() -> Self {
        Self::parse_from(normalise(std::env::args(), &|name| std::env::var(name).ok()))
    }

    /// What to do instead of serving.
    pub fn action(&self) -> Option<Action> {
        self.action
    }

    /// The page to compare with.
    pub fn old(&self) -> Option<&str> {
        self.old.as_deref()
    }

    /// Whether to list what is not mapped.
    pub fn report_unmapped(&self) -> bool {
        self.report_unmapped
    }

    /// What collectors look at.
    ///
    /// # Errors
    /// A list or a file that cannot be used.
    pub fn options(&self) -> anyhow::Result<Options> {
        if !exposition::is_metric_name(&self.namespace) {
            bail!(
                "-namespace {:?}: not the beginning of a metric name; use letters, digits and _",
                self.namespace
            );
        }
        Ok(Options {
            namespace: self.namespace.clone(),
            compat: if self.compat == "1.86" { Compat::V1_86 } else { Compat::Corrected },
            names: self.names,
            config_command: Some(self.config_command.clone()).filter(|name| name != "-"),
            exclude_latency: self.exclude_latency_histogram_metrics,
            include_config: self.include_config_metrics,
            redact_config: self.redact_config_metrics,
            include_system: self.include_system_metrics,
            include_empty_databases: self.include_metrics_for_empty_databases,
            append_role: self.append_instance_role_label,
            features: self.features.features(self.compat == "1.86")?,
            record: None,
        })
    }

    /// Where and how pages are served. Prometheus keeps a connection for each target of `/scrape`.
    ///
    /// # Errors
    /// Flags of the listener that contradict each other.
    pub fn web(&self) -> anyhow::Result<Web> {
        let mut web = self.web.web(9121);
        let limit = &mut web.server.limits.max_connections;
        *limit = (*limit).max(self.features.max_targets().saturating_add(64));
        web.server.web_settings = self.features.web_settings()?;
        if web.server.web_settings.is_some() && web.server.web_config_file.is_some() {
            bail!("--web.config.file excludes -tls-server-* and -basic-auth-*: give one or the other");
        }
        Ok(web)
    }

    /// How all of the cluster is shown; `None` when it is not.
    ///
    /// # Errors
    /// An address or a file that cannot be used.
    pub fn cluster(&self, options: &Arc<Options>) -> anyhow::Result<Option<cluster::Settings>> {
        if !options.features.whole_cluster {
            return Ok(None);
        }
        let given = [&self.url].into_iter().chain(self.features.cluster_seeds());
        let seeds = given
            .filter(|seed| !seed.is_empty())
            .map(|seed| self.address(seed).context("cannot use a seed of the cluster"));
        let seeds = seeds.collect::<anyhow::Result<Vec<_>>>()?;
        if seeds.is_empty() {
            bail!("--cluster needs a node to ask: give --url or --cluster-seeds");
        }
        Ok(Some(cluster::Settings {
            seeds,
            options: Arc::clone(options),
            client_name: self.client_name(),
            by_hostname: self.by_hostname(),
            max_series: self.web.max_series,
            request_errors: Arc::default(),
        }))
    }

    /// Whether nodes are reached by the names that they announce.
    pub fn by_hostname(&self) -> bool {
        self.features.discover_hostnames()
    }

    /// Whether `/discover-cluster-nodes` answers, and whether it gives hostnames.
    pub fn discovery(&self) -> Option<bool> {
        self.features.is_cluster().then(|| self.features.discover_hostnames())
    }

    /// How `/scrape` works.
    pub fn multi(&self, options: &Arc<Options>, web: &Web) -> multi::Settings {
        multi::Settings {
            options: Arc::clone(options),
            client_name: self.client_name(),
            own_metrics: self.own_metrics(),
            max_targets: self.features.max_targets(),
            concurrency: self.features.concurrency(),
            web: web.clone(),
        }
    }

    /// Whether `/scrape` answers.
    pub fn scrape_endpoint(&self) -> bool {
        self.features.scrape_endpoint()
    }

    /// The file of targets that `/scrape` may reach.
    pub fn targets_file(&self) -> Option<&Path> {
        self.features.targets_file().map(PathBuf::as_path)
    }

    /// The password file.
    pub fn password_file(&self) -> Option<PathBuf> {
        path(&self.password_file)
    }

    /// The address of the target, as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether connections are named.
    pub fn client_name(&self) -> bool {
        self.set_client_name
    }

    /// Whether families of the process and the build are wanted.
    pub fn own_metrics(&self) -> bool {
        !self.redis_only_metrics
    }

    /// Who we are on the target. The password file counts only when there is no password.
    ///
    /// # Errors
    /// A password file that cannot be used.
    pub fn credentials(&self) -> anyhow::Result<Credentials> {
        let mut credentials = Credentials {
            user: given(&self.user),
            password: given(&self.password.0),
            ..Credentials::default()
        };
        if let (Some(file), None) = (self.password_file(), &credentials.password) {
            credentials.read_file(&file)?;
        }
        Ok(credentials)
    }

    /// TLS to the target.
    ///
    /// # Errors
    /// A certificate without its key.
    pub fn tls(&self) -> anyhow::Result<TlsFiles> {
        let client = match (path(&self.tls_client_cert_file), path(&self.tls_client_key_file)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("-tls-client-cert-file and -tls-client-key-file go together: give both or none"),
        };
        Ok(TlsFiles {
            ca: path(&self.tls_ca_cert_file),
            client,
            skip_verification: self.skip_tls_verification,
            server_name: self.features.tls_server_name(),
        })
    }

    /// Where a server is, and who we are there: a rule of the file of targets says it where it fits, else the flags.
    fn address(&self, url: &str) -> anyhow::Result<Address> {
        let (credentials, tls) = (self.credentials()?, self.tls()?);
        let ruled = match self.targets_file() {
            Some(file) => Allowed::new(Some(file), url, &credentials, &tls)?.rule_for(url)?,
            None => None,
        };
        let (credentials, tls) = ruled.unwrap_or((credentials, tls));
        Ok(Address::parse(url, &credentials, &tls)?)
    }

    /// The target; `None` when its address is empty.
    ///
    /// # Errors
    /// An address or a file that cannot be used.
    pub fn target(&self, options: &Arc<Options>) -> anyhow::Result<Option<Target>> {
        if self.url.is_empty() {
            return Ok(None);
        }
        let address = self.address(&self.url).context("cannot use the target")?;
        Ok(Some(Target::new(address, Arc::clone(options), self.set_client_name)))
    }
}

/// A flag's text, unless it is empty.
fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn path(text: &str) -> Option<PathBuf> {
    given(text).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str], env: &[(&str, &str)]) -> Cli {
        let lookup =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let arguments = ["redis-exporter"].iter().chain(arguments).map(|word| (*word).to_owned());
        Cli::try_parse_from(normalise(arguments, &lookup)).unwrap()
    }

    #[test]
    fn the_command_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_in_gos_syntax_are_read() {
        let cli = parse(
            &[
                "-redis.addr=valkey://h:1",
                "-namespace",
                "db",
                "-set-client-name=f",
                "-include-system-metrics",
                "-debug",
                "-config-command",
                "-",
                "-log-format",
                "txt",
            ],
            &[],
        );
        assert_eq!(
            (cli.url.as_str(), cli.namespace.as_str(), cli.set_client_name),
            ("valkey://h:1", "db", false)
        );
        assert!(cli.include_system_metrics && cli.options().unwrap().config_command.is_none());
        assert_eq!(cli.web.log_level, tracing::Level::DEBUG);
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_an_invalid_boolean_is_ignored() {
        let env = [
            ("REDIS_ADDR", "redis://env:1"),
            ("REDIS_EXPORTER_NAMESPACE", "env"),
            ("REDIS_EXPORTER_INCL_CONFIG_METRICS", "yes"),
            ("REDIS_EXPORTER_INCL_SYSTEM_METRICS", "T"),
            ("REDIS_EXPORTER_DEBUG", "true"),
            ("REDIS_EXPORTER_LOG_LEVEL", "nonsense"),
        ];
        let cli = parse(&["--url", "redis://flag:1"], &env);
        assert_eq!((cli.url.as_str(), cli.namespace.as_str()), ("redis://flag:1", "env"));
        assert!(!cli.include_config_metrics && cli.include_system_metrics);
        assert_eq!(cli.web.log_level, tracing::Level::DEBUG);
        assert!(parse(&[], &[("REDIS_ADDR", "")]).target(&Arc::default()).unwrap().is_none());
    }

    #[test]
    fn what_cannot_work_is_named() {
        for (arguments, expected) in [
            (&["-namespace=my-ns"][..], "-namespace"),
            (&["-tls-client-cert-file=/c"], "-tls-client-key-file"),
            (&["-redis.addr=redis://:s3cret@h/x"], "database number"),
            (&["-redis.password-file=/nowhere"], "/nowhere"),
            (&["-check-keys=a=b=c"], "-check-keys"),
            (&["-script=/nowhere.lua"], "/nowhere.lua"),
            (&["-tls-server-cert-file=/c"], "-tls-server-key-file"),
            (&["-basic-auth-password=s3cret", "-basic-auth-hash-password=$2y$"], "exclude each other"),
            (&["-tls-server-cert-file=/c", "-tls-server-key-file=/k", "-tls-server-min-version=x"], "TLS"),
        ] {
            let cli = parse(arguments, &[]);
            let error = cli.options().err().or_else(|| cli.target(&Arc::default()).err());
            let error = error.or_else(|| cli.web().err()).map(|error| format!("{error:#}")).unwrap();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", parse(&["-redis.password=s3cret"], &[])).contains("s3cret"));
    }
}
