//! Hosts: `host`, `hostaddr` and `port` lists paired up, with libpq's defaults.

use super::DsnError;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// PostgreSQL's port when none is given.
pub(super) const DEFAULT_PORT: u16 = 5432;
/// Where servers put their Unix socket: Debian's and upstream's folder.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the folder of a Unix socket (starts with `/`; `@` for an abstract one).
    pub name: String,
    /// The address to connect to instead of looking the name up.
    pub address: Option<IpAddr>,
    /// TCP port, or the number in the socket's file name.
    pub port: u16,
}

impl Host {
    /// Whether this is a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.address.is_none() && self.name.starts_with(['/', '@'])
    }

    /// The name under which the password file knows this host: `localhost` for a default socket folder.
    pub(crate) fn passfile_name(&self) -> String {
        if SOCKET_DIRS.contains(&self.name.as_str()) { "localhost".into() } else { self.name.clone() }
    }
}

/// `host:port`; an IPv6 address stands in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') && !self.is_unix() {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// Pairs the lists up. One port serves all hosts; otherwise the lists must be equally long.
pub(super) fn resolve(
    host: Option<String>,
    hostaddr: Option<String>,
    port: Option<String>,
) -> Result<Vec<Host>, DsnError> {
    let list = |value: Option<String>| -> Vec<String> {
        value.map(|value| value.split(',').map(|part| part.trim().to_owned()).collect()).unwrap_or_default()
    };
    let (names, addresses, ports) = (list(host), list(hostaddr), list(port));
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(DsnError::new(format!(
            "connection string: {} hosts but {} addresses in hostaddr; give one for each",
            names.len(),
            addresses.len()
        )));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(DsnError::new(format!(
            "connection string: {} ports for {count} hosts; give one port, or one for each host",
            ports.len()
        )));
    }
    (0..count)
        .map(|i| {
            let address = match addresses.get(i).filter(|address| !address.is_empty()) {
                Some(address) => Some(address.parse::<IpAddr>().map_err(|_| {
                    DsnError::new(format!("connection string: hostaddr {} is not an IP address", i + 1))
                })?),
                None => None,
            };
            let name = match (names.get(i).filter(|name| !name.is_empty()), address) {
                (Some(name), _) => name.clone(),
                (None, Some(address)) => address.to_string(),
                (None, None) => default_name(),
            };
            let port = match ports.get(i).or(ports.first()).filter(|port| !port.is_empty()) {
                // The text is not repeated: an unescaped password can end up here.
                Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                    DsnError::new(format!(
                        "connection string: the port of host {} is not a number from 1 to 65535 (in a URI, @ : / ? # \
                         in user or password must be percent-encoded)",
                        i + 1
                    ))
                })?,
                None => DEFAULT_PORT,
            };
            Ok(Host { name, address, port })
        })
        .collect()
}

/// Without a host: the socket folder that exists, else TCP.
fn default_name() -> String {
    let exists = |dir: &&&str| std::fs::read_dir(Path::new(dir)).is_ok_and(has_socket);
    SOCKET_DIRS.iter().find(exists).map_or_else(|| "localhost".to_owned(), |dir| (*dir).to_owned())
}

fn has_socket(entries: std::fs::ReadDir) -> bool {
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(".s.PGSQL.") && !name.ends_with(".lock")
    })
}
