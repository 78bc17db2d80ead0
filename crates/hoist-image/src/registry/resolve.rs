//! Names to addresses without the C library's resolver, which a static binary does not have: literals, `localhost`,
//! /etc/hosts and /etc/resolv.conf. The texts are those of Go's resolver, which users of Docker know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::sync::OnceCell;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Reads the system's settings when first asked for a name, so each pull sees them as they are.
#[derive(Default)]
pub(super) struct Resolver {
    inner: OnceCell<TokioResolver>,
}

impl Resolver {
    /// Addresses of a host, IPv4 first.
    pub(super) async fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if is_localhost(host) {
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
        }
        let resolver = self.inner.get_or_try_init(|| async { build() }).await?;
        match resolver.lookup_ip(host).await {
            Ok(found) => {
                let mut addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
                addresses.sort_by_key(SocketAddr::is_ipv6);
                Ok(addresses)
            }
            Err(e) if e.is_nx_domain() || e.is_no_records_found() => {
                Err(format!("lookup {host}{}: no such host", name_server()))
            }
            Err(e) => Err(format!("lookup {host}{}: {e}", name_server())),
        }
    }
}

fn build() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|e| format!("{RESOLV_CONF}: {e}"))?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|e| format!("resolver: {e}"))
}

/// `localhost` and what is below it (RFC 6761 section 6.3).
pub(super) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
}

/// ` on 10.0.0.1:53`, the first server asked.
fn name_server() -> String {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let first = text.lines().find_map(|line| line.strip_prefix("nameserver"));
    match first.and_then(|rest| rest.trim().parse::<IpAddr>().ok()) {
        Some(address) => format!(" on {}", SocketAddr::new(address, 53)),
        None => String::new(),
    }
}
