//! Bridges, addresses, published ports: what a container's network needs on the host, and the netlink bytes that make
//! its own end. Blocking code without async. Knows nothing of containers beyond an id, nothing of processes.

#![forbid(unsafe_code)]

mod bridge;
mod conntrack;
mod default_bridge;
mod element;
mod expression;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod ipam;
mod link;
mod message;
mod networks;
mod nft;
mod ports;
mod proxy;
mod resolver;
mod routes;
mod store;
mod transaction;
mod watch;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use link::loopback_only;
pub use networks::Networks;
pub use resolver::{HostResolver, ResolverWishes, hosts_file, resolv_conf};

/// Engine-wide settings (flags of `hoist engine`).
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the default bridge device (docker0's part), e.g. `hoist0`; at most 15 bytes. Also names our nft table, so
    /// that engines side by side do not share one.
    pub bridge: String,
    /// Address and prefix of the bridge (`--bip`); `None`: picked free of the machine's routes from the pools.
    pub bip: Option<(Ipv4Addr, u8)>,
    /// Range to hand out addresses from (`--fixed-cidr`).
    pub fixed_cidr: Option<(Ipv4Addr, u8)>,
    /// (base, base prefix, size) as docker's `--default-address-pool base=…,size=…`; empty: Docker's own list.
    pub default_address_pools: Vec<(Ipv4Addr, u8, u8)>,
    /// 0: 1500.
    pub mtu: u32,
    /// Inter-container communication on the default bridge (`--icc`).
    pub icc: bool,
    /// Default host address for published ports (`--ip`), 0.0.0.0 when none.
    pub default_publish_ip: Option<IpAddr>,
    /// `--userland-proxy=false`: published ports are NAT alone, on loopback too; not on IPv6.
    pub without_proxy: bool,
}

/// A network as stored. (Today only the default bridge; user-defined ones use the same type.)
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub driver: String,
    pub created_ns: i64,
    pub bridge: String,
    pub subnet: (Ipv4Addr, u8),
    pub gateway: Ipv4Addr,
    pub mtu: u32,
    pub labels: std::collections::BTreeMap<String, String>,
    pub options: std::collections::BTreeMap<String, String>,
    pub internal: bool,
}

/// A port a container wants published: Docker's PortBindings after parsing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    pub container_port: u16,
    pub protocol: Protocol,
    /// `None`: both 0.0.0.0 and :: (or the engine's `--ip`).
    pub host_ip: Option<IpAddr>,
    /// First and last acceptable host port; `(0, 0)`: any free one from the ephemeral range.
    pub host_ports: (u16, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// A port as published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container_port: u16,
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    pub host_port: u16,
}

/// What a container holds in a network. Kept by the engine in the container's record, given back by [`Networks::adopt`]
/// after a restart and to [`Networks::release`] at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: String,
    pub container_id: String,
    pub network_id: String,
    pub network_name: String,
    pub ip: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
    /// `02:42:ac:11:00:02`
    pub mac: String,
    /// Host end of the veth pair.
    pub host_device: String,
    pub ports: Vec<PublishedPort>,
}

/// Netlink bytes for the runtime; field by field `hoist_runtime::launch::NetworkSetup`, which says how they are sent.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub host_batch: Vec<u8>,
    pub netns_fd_at: Vec<usize>,
    pub netns_batch: Vec<u8>,
}

/// A request for an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    pub container_id: String,
    /// Network name or id (or unique id prefix).
    pub network: String,
    pub ip: Option<Ipv4Addr>,
    pub mac: Option<String>,
    pub ports: Vec<PortRequest>,
}

/// Errors, with Docker's texts where clients match them (e.g. `Bind for 0.0.0.0:80 failed: port is already allocated`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("network {0} not found")]
    NotFound(String),
    #[error("Bind for {0} failed: port is already allocated")]
    PortAllocated(SocketAddr),
    /// Somebody outside the engine has the port.
    #[error("failed to bind host port for {host}:{target}: address already in use")]
    PortInUse { host: SocketAddr, target: String },
    #[error("failed to bind host port for {host}:{target}: {reason}")]
    PortUnavailable { host: SocketAddr, target: String, reason: String },
    #[error("{0}")]
    Other(String),
}

impl From<hoist_db::Error> for Error {
    fn from(error: hoist_db::Error) -> Error {
        Error::Other(error.to_string())
    }
}
