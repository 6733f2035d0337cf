//! Every keyword of libpq 15 to 18 with its environment variable and what this client does with it.
//! A keyword that is not here is taken for a server parameter, as lib/pq does.

/// What becomes of a keyword.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// Has its meaning.
    Honoured,
    /// Accepted without effect: the reason is in the comment at the row.
    Ignored,
    /// Accepted with one of these values, which ask for nothing; refused with any other.
    Only(&'static [&'static str]),
}

/// One keyword.
pub(super) struct Keyword {
    pub(super) name: &'static str,
    pub(super) env: Option<&'static str>,
    pub(super) usage: Use,
}

const fn used(name: &'static str, env: Option<&'static str>) -> Keyword {
    Keyword { name, env, usage: Use::Honoured }
}

const fn ignored(name: &'static str, env: Option<&'static str>) -> Keyword {
    Keyword { name, env, usage: Use::Ignored }
}

const fn only(name: &'static str, env: Option<&'static str>, harmless: &'static [&'static str]) -> Keyword {
    Keyword { name, env, usage: Use::Only(harmless) }
}

pub(super) const KEYWORDS: &[Keyword] = &[
    used("host", Some("PGHOST")),
    used("hostaddr", Some("PGHOSTADDR")),
    used("port", Some("PGPORT")),
    used("dbname", Some("PGDATABASE")),
    used("user", Some("PGUSER")),
    used("password", Some("PGPASSWORD")),
    used("passfile", Some("PGPASSFILE")),
    used("options", Some("PGOPTIONS")),
    used("application_name", Some("PGAPPNAME")),
    used("fallback_application_name", None),
    used("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    used("channel_binding", Some("PGCHANNELBINDING")),
    used("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    used("load_balance_hosts", Some("PGLOADBALANCEHOSTS")),
    used("keepalives", None),
    used("keepalives_idle", None),
    used("keepalives_interval", None),
    used("keepalives_count", None),
    used("tcp_user_timeout", None),
    used("sslmode", Some("PGSSLMODE")),
    used("sslnegotiation", Some("PGSSLNEGOTIATION")),
    used("sslcert", Some("PGSSLCERT")),
    used("sslkey", Some("PGSSLKEY")),
    used("sslpassword", None),
    used("sslrootcert", Some("PGSSLROOTCERT")),
    used("sslsni", Some("PGSSLSNI")),
    used("sslcertmode", Some("PGSSLCERTMODE")),
    used("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION")),
    used("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION")),
    // Results are always UTF-8.
    ignored("client_encoding", Some("PGCLIENTENCODING")),
    // TLS compression no longer exists.
    ignored("sslcompression", Some("PGSSLCOMPRESSION")),
    // Details of GSSAPI, which is not asked for.
    ignored("krbsrvname", Some("PGKRBSRVNAME")),
    ignored("gsslib", Some("PGGSSLIB")),
    ignored("gssdelegation", Some("PGGSSDELEGATION")),
    // lib/pq's own switches for prepared statements.
    ignored("binary_parameters", None),
    ignored("disable_prepared_binary_result", None),
    only("gssencmode", Some("PGGSSENCMODE"), &["disable", "prefer"]),
    only("replication", None, &["false", "off", "no", "0"]),
    only("require_auth", Some("PGREQUIREAUTH"), &[]),
    only("requirepeer", Some("PGREQUIREPEER"), &[]),
    only("sslcrl", Some("PGSSLCRL"), &[]),
    only("sslcrldir", Some("PGSSLCRLDIR"), &[]),
    only("sslkeylogfile", None, &[]),
    only("min_protocol_version", Some("PGMINPROTOCOLVERSION"), &["3.0"]),
    only("max_protocol_version", Some("PGMAXPROTOCOLVERSION"), &["3.0", "3.2", "latest"]),
    only("scram_client_key", None, &[]),
    only("scram_server_key", None, &[]),
    only("oauth_issuer", None, &[]),
    only("oauth_client_id", None, &[]),
    only("oauth_client_secret", None, &[]),
    only("oauth_scope", None, &[]),
];
