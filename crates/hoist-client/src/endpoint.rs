//! Where an engine listens: `unix:///path` or `tcp://host:port`, parsed as Docker's clients parse `DOCKER_HOST`.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use crate::{Error, Result, Stream};

/// Port of an engine without TLS when the address names none.
pub const DEFAULT_HTTP_PORT: u16 = 2375;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Endpoint {
    pub fn parse(address: &str) -> Result<Self> {
        let address = address.trim();
        if let Some(path) = address.strip_prefix("unix://") {
            if path.is_empty() {
                return Err(Error::Endpoint(format!("no socket path in {address:?}")));
            }
            return Ok(Self::Unix(path.into()));
        }
        if let Some(rest) = address.strip_prefix("tcp://").or_else(|| address.strip_prefix("http://")) {
            return Self::parse_tcp(address, rest.trim_end_matches('/'));
        }
        if address.starts_with('/') {
            return Ok(Self::Unix(address.into()));
        }
        match address.split_once("://") {
            Some((scheme @ ("ssh" | "https" | "npipe" | "fd"), _)) => {
                Err(Error::Endpoint(format!("hosts of scheme {scheme:?} are not supported: {address}")))
            }
            Some((_, _)) => Err(Error::Endpoint(format!("invalid bind address format: {address}"))),
            None => Self::parse_tcp(address, address),
        }
    }

    fn parse_tcp(address: &str, rest: &str) -> Result<Self> {
        let bad = || Error::Endpoint(format!("invalid bind address format: {address}"));
        if rest.contains('/') {
            return Err(bad());
        }
        let (host, port) = if let Some(after) = rest.strip_prefix('[') {
            let (host, tail) = after.split_once(']').ok_or_else(bad)?;
            (host, tail.strip_prefix(':'))
        } else {
            match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        let port = match port {
            Some(text) => text.parse().map_err(|_| bad())?,
            None => DEFAULT_HTTP_PORT,
        };
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    pub fn connect(&self) -> Result<Stream> {
        let failed = |source: io::Error| Error::Connect { host: self.to_string(), source };
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix).map_err(failed),
            Self::Tcp { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, format!("host {host} has no address"));
                for ip in addresses_of(host).map_err(failed)? {
                    match TcpStream::connect_timeout(&SocketAddr::new(ip, *port), Duration::from_secs(30)) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Stream::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(failed(last))
            }
        }
    }

    /// What goes into the `Host:` header; Docker's clients send a fixed name over sockets without one.
    pub fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { .. } => write!(f, "tcp://{}", self.host_header()),
        }
    }
}

/// Addresses of a host name: literals, `localhost`, `/etc/hosts`, then the name servers of `/etc/resolv.conf`.
/// The C library is not asked: a static binary must not load its name service modules.
fn addresses_of(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let listed = addresses_in_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
    }
    dns::lookup(host)
}

fn addresses_in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.push(ip);
        }
    }
    found.sort_by_key(|ip| ip.is_ipv6());
    found
}

#[path = "dns.rs"]
mod dns;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_as_docker_parses_them() {
        assert_eq!(Endpoint::parse("unix:///run/x.sock").unwrap(), Endpoint::Unix("/run/x.sock".into()));
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        assert_eq!(Endpoint::parse("tcp://127.0.0.1:99").unwrap(), tcp("127.0.0.1", 99));
        assert_eq!(Endpoint::parse("tcp://h").unwrap(), tcp("h", 2375));
        assert_eq!(Endpoint::parse("tcp://[::1]:8").unwrap(), tcp("::1", 8));
        assert_eq!(Endpoint::parse("tcp://:8").unwrap(), tcp("localhost", 8));
        assert!(Endpoint::parse("tcp://a:b").is_err());
        assert!(Endpoint::parse("ssh://me@there").is_err());
        assert!(Endpoint::parse("unix://").is_err());
    }

    #[test]
    fn names_in_the_hosts_file_are_found_ipv4_first() {
        let hosts = "::1 box # c\n10.0.0.1 other box\n# 1.1.1.1 box\n";
        let found: Vec<String> = addresses_in_hosts(hosts, "BOX").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1", "::1"]);
    }
}
