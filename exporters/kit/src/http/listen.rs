//! Listen addresses and binding: `:9187` binds both IP versions, errors name the address and the fix.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

use super::{Limits, ServeError, ServerConfig};
use crate::web_config::Live;

/// Length of the kernel's queue of connections not yet accepted.
const BACKLOG: i32 = 1024;

/// Where to listen: `:9187` (every address of both IP versions), `127.0.0.1:9187`, `[::1]:9187` or
/// `localhost:9187`. Port 0 lets the kernel choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// Empty for every address.
    host: String,
    port: u16,
}

impl ListenAddress {
    /// Every address of the machine at this port, both IP versions.
    pub fn any(port: u16) -> Self {
        Self { host: String::new(), port }
    }

    /// Where a client on this machine connects to.
    pub(crate) fn local(&self) -> String {
        let host = match self.host.as_str() {
            "" | "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        Self { host: host.to_owned(), port: self.port }.to_string()
    }

    /// The port, 0 when the kernel is to choose one.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ServeError;

    fn from_str(text: &str) -> Result<Self, ServeError> {
        let fail = |problem: &str| ServeError::Address { text: text.to_owned(), problem: problem.to_owned() };
        if text.contains("://") {
            return Err(fail("only TCP addresses are supported"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| fail("the port is missing"))?;
        let port = port.parse().map_err(|_| fail("the port is not a number from 0 to 65535"))?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(ip)) if ip.parse::<Ipv6Addr>().is_ok() => ip,
            Some(_) => return Err(fail("the brackets do not hold an IPv6 address")),
            None if host.contains(':') => return Err(fail("an IPv6 address needs brackets")),
            None => host,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Sockets that listen, not yet served.
#[derive(Debug)]
pub struct Bound {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) limits: Limits,
    pub(super) web: Live,
}

impl Bound {
    /// The addresses in use, with the real ports where 0 was asked for.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Whether the server speaks TLS: the scheme of its addresses is then `https`.
    pub fn is_tls(&self) -> bool {
        self.web.current().tls.is_some()
    }
}

/// Checks the web configuration and takes the addresses.
///
/// # Errors
/// [`ServeError`], whose text names the address or the file, the cause and the fix.
pub async fn bind(config: &ServerConfig) -> Result<Bound, ServeError> {
    let web = Live::new(
        config.web_config_file.as_deref(),
        config.web_settings.as_ref(),
        config.limits.reload_check,
    )?;
    let listeners = if config.systemd_socket {
        systemd_listeners()?
    } else {
        let mut listeners = Vec::with_capacity(config.listen.len());
        for address in &config.listen {
            listeners.push(bind_one(address).await.map_err(|cause| bind_error(address, cause))?);
        }
        listeners
    };
    if listeners.is_empty() {
        return Err(ServeError::NoAddress);
    }
    Ok(Bound { listeners, limits: config.limits.clone(), web })
}

async fn bind_one(address: &ListenAddress) -> Result<TcpListener, Error> {
    if address.host.is_empty() {
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port);
        return match listen(both) {
            // A machine with IPv6 switched off.
            Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port))
            }
            result => result,
        };
    }
    let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
    for candidate in tokio::net::lookup_host((address.host.as_str(), address.port)).await? {
        match listen(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn bind_error(address: &ListenAddress, cause: Error) -> ServeError {
    let advice = match cause.kind() {
        ErrorKind::AddrInUse => format!(
            "stop the process that holds it (`ss -ltnp 'sport = :{}'` names it) or choose another address",
            address.port
        ),
        ErrorKind::PermissionDenied => {
            "choose a port above 1023, or grant CAP_NET_BIND_SERVICE to the process".to_owned()
        }
        ErrorKind::AddrNotAvailable => "choose an address of this machine (`ip addr` lists them)".to_owned(),
        _ => "check the address".to_owned(),
    };
    ServeError::Bind { address: address.to_string(), cause, advice }
}

fn systemd_listeners() -> Result<Vec<TcpListener>, ServeError> {
    let fail = |error: Error| ServeError::SystemdSocket(error.to_string());
    let mut passed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::with_capacity(passed.len());
    for index in 0..passed.len() {
        if let Some(listener) = passed.take_tcp_listener(index).map_err(fail)? {
            SockRef::from(&listener).set_nonblocking(true).map_err(fail)?;
            listeners.push(TcpListener::from_std(listener).map_err(fail)?);
        }
    }
    if listeners.is_empty() {
        return Err(ServeError::SystemdSocket("LISTEN_FDS passes no socket to this process".to_owned()));
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_and_printed() {
        for text in [":9187", "127.0.0.1:9187", "[::1]:0", "localhost:1", "0.0.0.0:65535"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_address_is_named_with_the_fix() {
        for (text, problem) in [
            ("9187", "the port is missing"),
            (":http", "the port is not a number"),
            (":70000", "the port is not a number"),
            ("::1:80", "an IPv6 address needs brackets"),
            ("[::1:80", "the brackets do not hold"),
            ("vsock://:80", "only TCP"),
        ] {
            let message = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(message.contains(text) && message.contains(problem), "{message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives_the_round_trip(text in "[\\[\\]:.0-9a-f]{0,24}") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse::<ListenAddress>().unwrap(), address);
            }
        }
    }

    #[tokio::test]
    async fn a_bare_port_takes_both_ip_versions() {
        let listener = bind_one(&ListenAddress::any(0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_fix() {
        let first = bind_one(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let taken = ListenAddress::from(first.local_addr().unwrap());
        let config = ServerConfig { listen: vec![taken.clone()], ..ServerConfig::default() };
        let message = bind(&config).await.unwrap_err().to_string();
        assert!(message.contains(&taken.to_string()), "{message}");
        assert!(message.contains("in use") && message.contains("choose another address"), "{message}");
    }

    #[tokio::test]
    async fn nothing_to_listen_on_is_an_error() {
        let none = bind(&ServerConfig::default()).await.unwrap_err();
        assert!(none.to_string().contains("nothing to listen on"));
        let systemd = ServerConfig { systemd_socket: true, ..ServerConfig::default() };
        assert!(bind(&systemd).await.unwrap_err().to_string().contains(".socket unit"));
    }
}
