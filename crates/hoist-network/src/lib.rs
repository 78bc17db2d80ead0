//! Bridges, addresses, published ports: what a container's network needs on the host, and the netlink bytes that make
//! its own end. Blocking code without async. Knows nothing of containers beyond an id, nothing of processes.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

use hoist_db::Db;
use serde::{Deserialize, Serialize};

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
pub enum Protocol { Tcp, Udp, Sctp }

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

/// All networks of one engine. Thread-safe; methods block on netlink for microseconds.
#[derive(Debug)]
pub struct Networks {}

/// Errors, with Docker's texts where clients match them (e.g. `Bind for 0.0.0.0:80 failed: port is already allocated`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("network {0} not found")]
    NotFound(String),
    #[error("Bind for {0} failed: port is already allocated")]
    PortAllocated(std::net::SocketAddr),
    #[error("{0}")]
    Other(String),
}

impl Networks {
    /// Opens the store, makes the default bridge and the nft table true (also after a reboot or a crash).
    pub fn open(db: Db, config: Config) -> Result<Networks, Error> { let _ = (db, config); todo!() }
    /// Networks in name order; `none` and `host` are the engine's business.
    pub fn list(&self) -> Vec<Network> { todo!() }
    /// By name, id or unique id prefix.
    pub fn get(&self, name: &str) -> Result<Network, Error> { let _ = name; todo!() }
    /// Takes an address and ports, publishes the ports (nft + listeners) and returns the netlink bytes for the runtime.
    /// On error nothing is left.
    pub fn allocate(&self, request: &EndpointRequest) -> Result<(Endpoint, Setup), Error> { let _ = request; todo!() }
    /// Takes back into the books an endpoint of a container that survived the engine (idempotent, also the ports).
    pub fn adopt(&self, endpoint: &Endpoint) -> Result<(), Error> { let _ = endpoint; todo!() }
    /// Gives address and ports back. The veth dies with the container's netns. Never fails halfway; unknown is fine.
    pub fn release(&self, endpoint: &Endpoint) { let _ = endpoint; todo!() }
    /// After all `adopt`s of a start: removes nft elements and veths that belong to no endpoint.
    pub fn sweep(&self) -> Result<(), Error> { todo!() }
    /// Removes bridge and table (clean shut-down of test engines: `hoist engine` leaves them by default).
    pub fn remove_all(&self) -> Result<(), Error> { todo!() }
}
