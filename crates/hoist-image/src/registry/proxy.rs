//! Proxies named by the environment, as Go's net/http reads it: HTTPS_PROXY, HTTP_PROXY, NO_PROXY in either case.

use std::net::IpAddr;

use base64::Engine as _;

use super::endpoint::Origin;
use super::resolve::is_localhost;
use crate::Error;

/// Which proxy serves which origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    https: Option<String>,
    http: Option<String>,
    no_proxy: Vec<String>,
}

/// One proxy.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) origin: Origin,
    /// Value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl Proxies {
    pub(super) fn from_environment() -> Proxies {
        let read = |name: &str| {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).ok();
            value.filter(|value| !value.is_empty())
        };
        let no_proxy = read("NO_PROXY").unwrap_or_default();
        Proxies {
            https: read("HTTPS_PROXY"),
            http: read("HTTP_PROXY"),
            no_proxy: no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).collect(),
        }
    }

    pub(super) fn for_origin(&self, origin: &Origin) -> Result<Option<Proxy>, Error> {
        let proxy = if origin.secure { &self.https } else { &self.http };
        match proxy {
            Some(url) if !self.is_exempt(origin) => parse(url).map(Some),
            _ => Ok(None),
        }
    }

    fn is_exempt(&self, origin: &Origin) -> bool {
        let host = origin.host.to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if is_localhost(&host) || address.is_some_and(|a| a.is_loopback()) {
            return true;
        }
        self.no_proxy.iter().any(|entry| {
            let (name, port) = match entry.rsplit_once(':') {
                Some((name, port)) if port.parse::<u16>().is_ok() && !name.contains(':') => (name, port.parse().ok()),
                _ => (entry.as_str(), None),
            };
            if port.is_some_and(|port: u16| port != origin.port) || name.is_empty() {
                return false;
            }
            if name == "*" {
                return true;
            }
            if let (Some(address), Some((network, bits))) = (address, name.split_once('/')) {
                let insecure = super::endpoint::Insecure::network(network, bits);
                return insecure.is_some_and(|(network, bits)| super::endpoint::in_network(address, network, bits));
            }
            let suffix = name.trim_start_matches('*').trim_start_matches('.');
            (host == suffix && !name.starts_with('.')) || host.ends_with(&format!(".{suffix}"))
        })
    }
}

fn parse(url: &str) -> Result<Proxy, Error> {
    let bad = || Error::Invalid(format!("proxy {:?} is not supported: give http://host:port", without_user(url)));
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let (origin, _) = Origin::of_url(&with_scheme).map_err(|_| bad())?;
    if origin.secure {
        return Err(bad());
    }
    let rest = with_scheme.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| percent_decoded(user));
    let authorization = user.map(|user| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user)));
    Ok(Proxy { origin, authorization })
}

fn without_user(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = bytes.get(index + 1..index + 3).and_then(|hex| str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[index] == b'%' => {
                out.push(byte);
                index += 3;
            }
            _ => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_domains_networks_and_ports() {
        let proxies = Proxies {
            https: Some("http://u:p%40@proxy.lan:3128".into()),
            http: None,
            no_proxy: ["a.lan", ".b.lan", "10.0.0.0/8", "c.lan:444"].map(String::from).to_vec(),
        };
        let proxied = |url: &str| proxies.for_origin(&Origin::of_url(url).unwrap().0).unwrap().is_some();
        for url in ["https://x.io", "https://b.lan", "https://11.0.0.1", "https://c.lan", "https://aa.lan"] {
            assert!(proxied(url), "{url}");
        }
        for url in [
            "https://a.lan",
            "https://s.a.lan",
            "https://s.b.lan",
            "https://10.1.1.1",
            "https://c.lan:444",
            "https://127.0.0.1",
            "https://localhost:5000",
            "http://x.io",
        ] {
            assert!(!proxied(url), "{url}");
        }
        let proxy = proxies.for_origin(&Origin::of_url("https://x.io").unwrap().0).unwrap().unwrap();
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dTpwQA=="));
        assert_eq!(proxy.origin.to_string(), "http://proxy.lan:3128");
    }
}
