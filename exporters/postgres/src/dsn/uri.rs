//! The URI form: `postgresql://[user[:password]@][host[:port]][,…][/dbname][?key=value[&…]]`. Every part may be
//! empty; parts are percent-decoded; IPv6 addresses stand in brackets; a query parameter overrides its part.

use super::{DsnError, Params};

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// Whether the text is a URI (and not `key=value`).
pub(super) fn is_uri(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// Splits a URI into keywords. Messages do not repeat the text: a password with an unescaped `/` can end up anywhere.
pub(super) fn parse(text: &str) -> Result<Params, DsnError> {
    let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    // The last @ ends the credentials, so that a password may hold one.
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));

    let mut params = Params::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            params.insert(name.to_owned(), value);
        }
    };
    set("user", decode(user, "user")?);
    set("password", decode(password, "password")?);
    set("dbname", decode(dbname, "database")?);
    let (names, ports) = split_hosts(hosts)?;
    if names.iter().any(|name| !name.is_empty()) || names.len() > 1 {
        set("host", names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        set("port", ports.join(","));
    }

    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(DsnError::new(
                "connection URI: a query parameter has no \"=\" (expected ?key=value&key=value)",
            ));
        };
        let (name, value) = (decode(name, "query parameter's name")?, decode(value, "query parameter")?);
        // JDBC's spelling, which libpq accepts in a URI.
        let (name, value) = if name == "ssl" && value == "true" {
            ("sslmode".into(), "require".into())
        } else {
            (name, value)
        };
        if name.is_empty() {
            return Err(DsnError::new("connection URI: a query parameter has no name"));
        }
        params.insert(name, value);
    }
    Ok(params)
}

fn split_hosts(hosts: &str) -> Result<(Vec<String>, Vec<String>), DsnError> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = if let Some(rest) = host.strip_prefix('[') {
            let Some((address, after)) = rest.split_once(']') else {
                return Err(DsnError::new("connection URI: an IPv6 address lacks its closing \"]\""));
            };
            match after.strip_prefix(':') {
                Some(port) => (address, port),
                None if after.is_empty() => (address, ""),
                None => {
                    return Err(DsnError::new(
                        "connection URI: only \":port\" may follow \"]\" of an IPv6 address",
                    ));
                }
            }
        } else {
            host.split_once(':').unwrap_or((host, ""))
        };
        names.push(decode(name, "host")?);
        ports.push(decode(port, "port")?);
    }
    Ok((names, ports))
}

fn decode(text: &str, part: &str) -> Result<String, DsnError> {
    let wrong = |why: &str| {
        DsnError::new(format!(
            "connection URI: {why} in the {part}; write %25 for a percent sign, and percent-encode @ : / ? # & too"
        ))
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(0), Some(0)) => return Err(wrong("%00 is not allowed")),
            // Two hex digits always fit a byte.
            (Some(high), Some(low)) => out.extend(u8::try_from(high * 16 + low)),
            _ => return Err(wrong("\"%\" is not followed by two hex digits")),
        }
    }
    String::from_utf8(out).map_err(|_| wrong("the decoded text is not UTF-8"))
}
