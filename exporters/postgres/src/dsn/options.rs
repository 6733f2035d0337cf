//! Keywords with a closed set of values, and server parameters given as keywords.

use super::table::{KEYWORDS, Use};
use super::{DsnError, Params};
use std::path::PathBuf;
use std::time::Duration;

type Take<'a> = dyn FnMut(&str) -> Option<String> + 'a;

fn one_of<T: Copy>(take: &mut Take<'_>, name: &str, default: T, values: &[(&str, T)]) -> Result<T, DsnError> {
    let Some(text) = take(name) else { return Ok(default) };
    values.iter().find(|(value, _)| *value == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<&str> = values.iter().map(|(value, _)| *value).collect();
        DsnError::new(format!(
            "connection string: {name}={text} is not known; use one of: {}",
            known.join(", ")
        ))
    })
}

fn number(take: &mut Take<'_>, name: &str) -> Result<Option<u64>, DsnError> {
    let Some(text) = take(name) else { return Ok(None) };
    match text.trim().parse::<i64>() {
        // libpq takes a negative number as "not set".
        Ok(value) => Ok(u64::try_from(value).ok()),
        Err(_) => Err(DsnError::new(format!("connection string: {name}={text} is not a whole number"))),
    }
}

/// `sslmode`, in libpq's order of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plain first, TLS if the server refuses plain.
    Allow,
    /// TLS first, plain if that is impossible (default).
    Prefer,
    /// TLS or nothing; the certificate is verified only when there is a root file.
    Require,
    /// The certificate must come from a trusted root.
    VerifyCa,
    /// The certificate must also carry the host's name.
    VerifyFull,
}

/// TLS settings of a connection string. Files are read at connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// How much TLS is asked for.
    pub mode: SslMode,
    /// Trusted roots: a PEM file, or `system` for the operating system's.
    pub root_cert: Option<PathBuf>,
    /// Client certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// Key of the client certificate, PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// Handshake at once instead of asking in the clear first (PostgreSQL 17 and later).
    pub direct: bool,
    /// Send the server's name.
    pub sni: bool,
    /// Present a client certificate if there is one.
    pub send_cert: bool,
    /// TLS 1.2 is allowed.
    pub allow_tls12: bool,
    /// TLS 1.3 is allowed.
    pub allow_tls13: bool,
    /// `~/.postgresql`, where libpq looks for files that are not named.
    pub default_dir: Option<PathBuf>,
}

impl TlsOptions {
    pub(super) fn take(take: &mut Take<'_>, home: Option<PathBuf>) -> Result<TlsOptions, DsnError> {
        let root_cert = take("sslrootcert").map(PathBuf::from);
        let system = root_cert.as_ref().is_some_and(|root| root.as_os_str() == "system");
        let default_mode = if system { SslMode::VerifyFull } else { SslMode::Prefer };
        let mode = one_of(
            take,
            "sslmode",
            default_mode,
            &[
                ("disable", SslMode::Disable),
                ("allow", SslMode::Allow),
                ("prefer", SslMode::Prefer),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )?;
        if system && mode < SslMode::VerifyFull {
            return Err(DsnError::new("connection string: sslrootcert=system needs sslmode=verify-full"));
        }
        let direct = one_of(take, "sslnegotiation", false, &[("postgres", false), ("direct", true)])?;
        if direct && mode < SslMode::Require {
            return Err(DsnError::new(
                "connection string: sslnegotiation=direct needs sslmode=require or stricter",
            ));
        }
        if take("sslpassword").is_some() {
            return Err(DsnError::new(
                "connection string: sslpassword: encrypted client keys are not supported; decrypt the key \
                 (openssl pkey -in client.key -out plain.key; chmod 0600) and drop sslpassword",
            ));
        }
        let old = [("TLSv1", 10), ("TLSv1.1", 11), ("TLSv1.2", 12), ("TLSv1.3", 13)];
        let minimum = one_of(take, "ssl_min_protocol_version", 12, &old)?;
        let maximum = one_of(take, "ssl_max_protocol_version", 13, &old)?;
        if maximum < 12 || maximum < minimum {
            return Err(DsnError::new(
                "connection string: ssl_max_protocol_version must be TLSv1.2 or TLSv1.3 and not below the minimum",
            ));
        }
        Ok(TlsOptions {
            mode,
            root_cert,
            cert: take("sslcert").map(PathBuf::from),
            key: take("sslkey").map(PathBuf::from),
            direct,
            sni: one_of(take, "sslsni", true, &[("1", true), ("0", false)])?,
            send_cert: one_of(
                take,
                "sslcertmode",
                true,
                &[("allow", true), ("require", true), ("disable", false)],
            )?,
            allow_tls12: minimum <= 12,
            allow_tls13: maximum >= 13,
            default_dir: home.map(|home| home.join(".postgresql")),
        })
    }
}

/// `channel_binding` of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Not used.
    Disable,
    /// Used when server and TLS allow (default).
    Prefer,
    /// The login fails without.
    Require,
}

impl ChannelBinding {
    pub(super) fn take(take: &mut Take<'_>) -> Result<ChannelBinding, DsnError> {
        one_of(
            take,
            "channel_binding",
            ChannelBinding::Prefer,
            &[
                ("disable", ChannelBinding::Disable),
                ("prefer", ChannelBinding::Prefer),
                ("require", ChannelBinding::Require),
            ],
        )
    }
}

/// `target_session_attrs`: which of several servers is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// Any (default).
    Any,
    /// Sessions accept writes.
    ReadWrite,
    /// Sessions do not accept writes.
    ReadOnly,
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
    /// A standby if one answers, else any.
    PreferStandby,
}

impl TargetSessionAttrs {
    pub(super) fn take(take: &mut Take<'_>) -> Result<TargetSessionAttrs, DsnError> {
        one_of(
            take,
            "target_session_attrs",
            TargetSessionAttrs::Any,
            &[
                ("any", TargetSessionAttrs::Any),
                ("read-write", TargetSessionAttrs::ReadWrite),
                ("read-only", TargetSessionAttrs::ReadOnly),
                ("primary", TargetSessionAttrs::Primary),
                ("standby", TargetSessionAttrs::Standby),
                ("prefer-standby", TargetSessionAttrs::PreferStandby),
            ],
        )
    }
}

/// TCP keep-alive settings; `None` is the operating system's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpOptions {
    pub(crate) keepalives: bool,
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) count: Option<u32>,
    pub(crate) user_timeout: Option<Duration>,
}

impl TcpOptions {
    pub(super) fn take(take: &mut Take<'_>) -> Result<TcpOptions, DsnError> {
        let positive = |value: Option<u64>| value.filter(|value| *value > 0);
        Ok(TcpOptions {
            keepalives: number(take, "keepalives")? != Some(0),
            idle: positive(number(take, "keepalives_idle")?).map(Duration::from_secs),
            interval: positive(number(take, "keepalives_interval")?).map(Duration::from_secs),
            count: positive(number(take, "keepalives_count")?).and_then(|count| u32::try_from(count).ok()),
            user_timeout: positive(number(take, "tcp_user_timeout")?).map(Duration::from_millis),
        })
    }
}

/// `connect_timeout` in seconds; 0 is none. libpq rounds 1 up to 2; here 1 is 1.
pub(super) fn connect_timeout(take: &mut Take<'_>) -> Result<Option<Duration>, DsnError> {
    Ok(number(take, "connect_timeout")?.filter(|seconds| *seconds > 0).map(Duration::from_secs))
}

/// `load_balance_hosts`.
pub(super) fn shuffle(take: &mut Take<'_>) -> Result<bool, DsnError> {
    one_of(take, "load_balance_hosts", false, &[("disable", false), ("random", true)])
}

/// Takes out what is not libpq's: server parameters such as `statement_timeout=5000`. Drops ignored keywords and
/// refuses those that ask for what this client cannot do.
pub(super) fn split_run_time(params: &mut Params) -> Result<Vec<(String, String)>, DsnError> {
    let mut run_time = Vec::new();
    let mut wrong = None;
    params.retain(|name, value| match KEYWORDS.iter().find(|keyword| keyword.name == name) {
        Some(keyword) => match keyword.usage {
            Use::Honoured => true,
            Use::Ignored => false,
            Use::Only(harmless) => {
                if !value.is_empty() && !harmless.contains(&value.as_str()) {
                    wrong.get_or_insert_with(|| {
                        let hint = match harmless {
                            [] => "leave it out".to_owned(),
                            harmless => format!("leave it out or use one of: {}", harmless.join(", ")),
                        };
                        format!("connection string: {name} is not supported with this value; {hint}")
                    });
                }
                false
            }
        },
        None => {
            // An odd name may be part of a badly quoted password: it is not repeated in the message.
            if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
                run_time.push((name.clone(), value.clone()));
            } else {
                wrong.get_or_insert_with(|| {
                    "connection string: a keyword has characters other than letters, digits, \"_\" and \".\"; quote \
                     values (key='a value'), percent-encode them in a URI"
                        .to_owned()
                });
            }
            false
        }
    });
    wrong.map_or(Ok(run_time), |message| Err(DsnError(message)))
}

/// The startup packet's `options`: as written, then each server parameter. The server splits at spaces and takes a
/// backslash as an escape.
pub(super) fn join(written: Option<String>, run_time: &[(String, String)]) -> Option<String> {
    let mut out = written.unwrap_or_default();
    for (name, value) in run_time {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str("-c ");
        out.push_str(name);
        out.push('=');
        for c in value.chars() {
            if c == '\\' || c.is_ascii_whitespace() {
                out.push('\\');
            }
            out.push(c);
        }
    }
    (!out.is_empty()).then_some(out)
}
