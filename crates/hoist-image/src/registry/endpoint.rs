//! Where a registry is: scheme, host, port, and whether it may be spoken to without proof of who it is. Pure.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoist_api::reference::DEFAULT_DOMAIN;
use hyper::header::HeaderName;

use super::hosts::{self, Rewrite};
use super::resolve::is_localhost;
use crate::Error;

const DOCKER_HUB: &str = "registry-1.docker.io";

/// Scheme, host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) secure: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// From `host`, `host:port`, `[v6]:port`.
    pub(super) fn parse(secure: bool, authority: &str) -> Result<Origin, Error> {
        let bad = || Error::Invalid(format!("invalid registry address {authority:?}"));
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            (host, port.strip_prefix(':'))
        } else {
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| bad())?,
            None if secure => 443,
            None => 80,
        };
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Origin { secure, host: host.to_owned(), port })
    }

    /// Origin and path of an absolute URL.
    pub(super) fn of_url(url: &str) -> Result<(Origin, String), Error> {
        let bad = || Error::Invalid(format!("invalid URL {url:?}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok((Origin::parse(secure, authority)?, path))
    }

    /// `host:port` as it stands in URLs and the Host header.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

/// How a server proves who it is, and we who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// Its certificate need not be valid.
    pub(super) insecure: bool,
    /// Certificates that count besides the system's.
    pub(super) ca: Vec<PathBuf>,
    /// Our certificates, each with its key, which may be in the same file.
    pub(super) client: Vec<(PathBuf, Option<PathBuf>)>,
}

/// One place to try.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) origin: Origin,
    /// Path of the API's root, without a slash at its end; `/v2` mostly.
    pub(super) api: String,
    pub(super) trust: Arc<Trust>,
    /// A mirror gets no credentials: they belong to the registry it stands in for.
    pub(super) mirror: bool,
    /// It may stand in for several registries, and is told which one is meant.
    pub(super) namespaced: bool,
    /// What it may be asked for: content by digest, what a tag stands for, to take something.
    pub(super) pulls: bool,
    pub(super) resolves: bool,
    pub(super) pushes: bool,
    /// To be sent there, and nowhere else.
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) rewrites: Vec<Rewrite>,
}

impl Endpoint {
    fn new(origin: Origin, prefix: &str, insecure: bool, mirror: bool) -> Endpoint {
        let (api, trust) = (format!("{prefix}/v2"), Arc::new(Trust { insecure, ..Trust::default() }));
        let (headers, rewrites, namespaced) = (Vec::new(), Vec::new(), false);
        Endpoint {
            origin,
            api,
            trust,
            mirror,
            namespaced,
            pulls: true,
            resolves: true,
            pushes: !mirror,
            headers,
            rewrites,
        }
    }
}

/// Where the registry of a domain is.
pub(super) fn authority_of(domain: &str) -> &str {
    if domain == DEFAULT_DOMAIN { DOCKER_HUB } else { domain }
}

/// What the engine was told about registries it need not verify.
#[derive(Clone, Debug, Default)]
pub(super) struct Insecure {
    names: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl Insecure {
    pub(super) fn new(entries: &[String]) -> Insecure {
        let mut insecure = Insecure::default();
        for entry in entries.iter().map(String::as_str).chain(["127.0.0.0/8", "::1/128"]) {
            match entry.split_once('/').and_then(|(address, bits)| Insecure::network(address, bits)) {
                Some(network) => insecure.networks.push(network),
                None => {
                    let name = entry.trim_start_matches("http://").trim_start_matches("https://");
                    insecure.names.push(name.trim_end_matches('/').to_ascii_lowercase());
                }
            }
        }
        insecure
    }

    /// A network in CIDR form.
    pub(super) fn network(address: &str, bits: &str) -> Option<(IpAddr, u8)> {
        let address: IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
    }

    pub(super) fn by_name(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        self.names.contains(&domain)
    }

    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|(network, bits)| in_network(address, *network, *bits))
    }

    /// Beyond what holds for everybody, are there networks to compare addresses with?
    pub(super) fn has_own_networks(&self) -> bool {
        self.networks.len() > 2
    }
}

pub(super) fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (a, n, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let drop = width - u32::from(bits);
    a.checked_shr(drop).unwrap_or(0) == n.checked_shr(drop).unwrap_or(0)
}

/// The places to try for a domain, in order: mirrors (of Docker Hub only), then what `hosts.toml` below `directory` says,
/// or the registry itself, an insecure one by HTTPS first and HTTP then.
pub(super) fn endpoints(
    domain: &str,
    insecure: bool,
    mirrors: &[String],
    directory: &Path,
) -> Result<Vec<Endpoint>, Error> {
    let mut endpoints = Vec::new();
    if domain == DEFAULT_DOMAIN {
        for mirror in mirrors {
            let with_scheme = if mirror.contains("://") { mirror.clone() } else { format!("https://{mirror}") };
            let (origin, path) = Origin::of_url(&with_scheme)?;
            let insecure = !origin.secure;
            endpoints.push(Endpoint::new(origin, path.trim_end_matches('/'), insecure, true));
        }
    }
    if let Some(named) = hosts::read(directory, domain)? {
        endpoints.extend(named);
        return Ok(endpoints);
    }
    let authority = authority_of(domain);
    let schemes: &[bool] = if insecure { &[true, false] } else { &[true] };
    for &secure in schemes {
        let origin = Origin::parse(secure, authority)?;
        endpoints.push(Endpoint::new(origin, "", insecure, false));
    }
    Ok(endpoints)
}

/// Whether a domain is this machine itself, by its spelling alone.
pub(super) fn literal_address(domain: &str) -> Option<IpAddr> {
    let origin = Origin::parse(true, domain).ok()?;
    if is_localhost(&origin.host) {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    origin.host.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_always_insecure_and_others_when_told() {
        let told = Insecure::new(&["reg.lan:5000".into(), "10.1.0.0/16".into(), "http://old.lan/".into()]);
        let is = |domain: &str| told.by_name(domain) || literal_address(domain).is_some_and(|a| told.has_address(a));
        for domain in
            ["127.0.0.1:5000", "127.9.9.9", "localhost:1", "[::1]:5000", "reg.lan:5000", "10.1.2.3", "old.lan"]
        {
            assert!(is(domain), "{domain}");
        }
        for domain in ["reg.lan", "10.2.0.1:5000", "docker.io", "128.0.0.1", "[::2]:5000"] {
            assert!(!is(domain), "{domain}");
        }
    }

    #[test]
    fn docker_hub_has_another_name_and_mirrors() {
        let found = endpoints("docker.io", false, &["http://m.lan:5000/".into()], Path::new("/none")).unwrap();
        let shown: Vec<String> = found.iter().map(|e| e.origin.to_string()).collect();
        assert_eq!(shown, ["http://m.lan:5000", "https://registry-1.docker.io"]);
        assert!(found[0].mirror && !found[1].mirror);
        let shown: Vec<String> = endpoints("[::1]:5000", true, &[], Path::new("/none"))
            .unwrap()
            .iter()
            .map(|e| e.origin.to_string())
            .collect();
        assert_eq!(shown, ["https://[::1]:5000", "http://[::1]:5000"]);
    }

    #[test]
    fn urls_have_an_origin_and_a_path() {
        let (origin, path) = Origin::of_url("https://user:pw@a.b:444?x=1#y").unwrap();
        assert_eq!((origin.to_string().as_str(), path.as_str()), ("https://a.b:444", "/?x=1"));
        for bad in ["", "x", "ftp://a/", "http:///x", "http://a:b/", "http://[::1/"] {
            assert!(Origin::of_url(bad).is_err(), "{bad}");
        }
    }
}
