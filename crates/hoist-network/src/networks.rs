//! [`Networks`]: the handle of one engine. Keeps the books in memory and orders what the other modules do; each change
//! either happens whole or leaves nothing.

mod books;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_db::Db;
use hoist_sys::netlink::{Protocol as NetlinkProtocol, Socket};

use crate::default_bridge::{self, random_id};
use crate::element::Element;
use crate::ipam::{Pool, Subnet};
use crate::link;
use crate::nft::{Ruleset, Table};
use crate::ports::{Ports, Reserved};
use crate::proxy::Proxy;
use crate::watch::Watcher;
use crate::{
    Config, Endpoint, EndpointRequest, Error, Network, Protocol, PublishedPort, Setup, bridge, conntrack, forward,
};
pub(crate) use books::Books;
use books::{FIRST_LINK_INDEX, LAST_LINK_INDEX, elements};

const DEVICE_PREFIX: &str = "veth";
const DEVICE_DIGITS: usize = 11;

/// All networks of one engine. Thread-safe; methods block on netlink for microseconds.
#[derive(Debug)]
pub struct Networks {
    config: Config,
    books: Arc<Mutex<Books>>,
    /// Ends with the handle.
    _watcher: Watcher,
}

impl Networks {
    /// Opens the store, makes the default bridge and the nft table true (also after a reboot or a crash).
    pub fn open(db: Db, config: Config) -> Result<Networks, Error> {
        default_bridge::check(&config)?;
        crate::store::migrate(&db)?;
        let route = Socket::open(NetlinkProtocol::Route)
            .map_err(|error| Error::Other(format!("open a netlink socket for routes: {error}")))?;
        let table = Table::open(&config.bridge)?;
        let (default, bridge_index) = default_bridge::ensure(&db, &route, &config)?;
        bridge::enable_forwarding()?;
        let network = &default.network;
        let subnet = Subnet::new(network.subnet.0, network.subnet.1);
        // What was published stays published: containers that survived go on being reachable until `sweep`.
        let elements = table.elements().map_err(|error| Error::Other(format!("read published ports: {error}")))?;
        let rules = Ruleset { bridge: config.bridge.clone(), subnet, icc: config.icc, loopback: config.without_proxy };
        if config.without_proxy {
            bridge::route_loopback(&config.bridge)?;
        }
        table.replace(&rules, &elements)?;
        let range = config.fixed_cidr.map(|(base, prefix)| Subnet::new(base, prefix));
        let books = Books {
            bridge_index,
            pool: Pool::new(&network.name, subnet, range, network.gateway),
            ports: Ports::new(!config.without_proxy),
            held: HashMap::new(),
            endpoints: HashMap::new(),
            proxy: Proxy::new()?,
            next_link_index: rand::random_range(FIRST_LINK_INDEX..LAST_LINK_INDEX),
            hairpin: bridge::bridged_frames_are_filtered(),
            removed: false,
            route,
            table,
            default,
            rules,
        };
        books.open_firewalls();
        books.remove_orphans();
        if forward::legacy_tables_filter() {
            tracing::warn!(
                bridge = %books.rules.bridge,
                "iptables-legacy rules are in use, which hoist does not change: if their FORWARD chain drops, accept the bridge there"
            );
        }
        let books = Arc::new(Mutex::new(books));
        let watcher = Watcher::start(books.clone())?;
        Ok(Networks { config, books, _watcher: watcher })
    }

    /// Networks in name order; `none` and `host` are the engine's business.
    pub fn list(&self) -> Vec<Network> {
        vec![self.books().default.network.clone()]
    }

    /// By name, id or unique id prefix.
    pub fn get(&self, name: &str) -> Result<Network, Error> {
        let network = &self.books().default.network;
        let found = !name.is_empty() && (network.name == name || network.id.starts_with(name));
        if found { Ok(network.clone()) } else { Err(Error::NotFound(name.to_owned())) }
    }

    /// The host as containers reach it: what `host-gateway` stands for.
    pub fn host_addresses(&self) -> Vec<IpAddr> {
        vec![IpAddr::V4(self.books().default.network.gateway)]
    }

    /// Takes an address and ports, publishes the ports (nft + listeners) and returns the netlink bytes for the runtime.
    /// On error nothing is left.
    pub fn allocate(&self, request: &EndpointRequest) -> Result<(Endpoint, Setup), Error> {
        let network = self.get(&request.network)?;
        let wish =
            request.mac.as_deref().filter(|mac| !mac.is_empty()).map(|text| {
                link::parse_mac(text).ok_or_else(|| Error::Other(format!("invalid MAC address: {text:?}")))
            });
        let wish = wish.transpose()?;
        let books = &mut *self.books();
        books.mend_bridge()?;
        let ip = match request.ip {
            Some(ip) => books.pool.take_this(ip).map(|()| ip)?,
            None => books.pool.take()?,
        };
        let reserved = match self.reserve_all(&mut books.ports, request, ip) {
            Ok(reserved) => reserved,
            Err(error) => {
                books.pool.give_back(ip);
                return Err(error);
            }
        };
        let id = random_id();
        let ports: Vec<PublishedPort> = reserved.iter().map(|reserved| reserved.port.clone()).collect();
        if let Err(error) = books.publish(&id, ip, &ports, reserved) {
            ports.iter().for_each(|port| books.ports.release(port));
            books.pool.give_back(ip);
            return Err(Error::Other(format!("publish ports of container {}: {error}", request.container_id)));
        }
        let mac = wish.unwrap_or_else(|| link::mac_of(ip));
        let endpoint = Endpoint {
            host_device: format!("{DEVICE_PREFIX}{}", &id[..DEVICE_DIGITS]),
            id,
            container_id: request.container_id.clone(),
            network_id: network.id,
            network_name: network.name,
            ip,
            prefix: network.subnet.1,
            gateway: network.gateway,
            mac: link::format_mac(mac),
            ports,
        };
        let setup = link::setup(&endpoint, &books.wiring(mac, network.mtu, self.config.icc));
        books.endpoints.insert(endpoint.id.clone(), endpoint.clone());
        Ok((endpoint, setup))
    }

    fn reserve_all(&self, ports: &mut Ports, request: &EndpointRequest, ip: Ipv4Addr) -> Result<Vec<Reserved>, Error> {
        let mut all: Vec<Reserved> = Vec::new();
        for port in &request.ports {
            match ports.reserve(port, self.config.default_publish_ip, ip) {
                Ok(reserved) => all.extend(reserved),
                Err(error) => {
                    all.iter().for_each(|reserved| ports.release(&reserved.port));
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    /// Takes back into the books an endpoint of a container that survived the engine (idempotent, also the ports). An
    /// error about a port leaves address and NAT in place: only what the proxy would serve is missing.
    pub fn adopt(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let books = &mut *self.books();
        if books.endpoints.contains_key(&endpoint.id) {
            return Ok(());
        }
        books.pool.take_this(endpoint.ip)?;
        let mut reserved = Vec::new();
        let mut first_error = None;
        for port in &endpoint.ports {
            match books.ports.adopt(port, endpoint.ip) {
                Ok(taken) => reserved.push(taken),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        // An element of the same port that leads elsewhere is a leftover: ours is the living container.
        let elements = elements(&endpoint.ports, endpoint.ip);
        let published = books.table.publish(&elements).or_else(|_stale| {
            books.table.withdraw(&elements)?;
            books.table.publish(&elements)
        });
        let served = books.serve(&endpoint.id, endpoint.ip, reserved);
        books.endpoints.insert(endpoint.id.clone(), endpoint.clone());
        published.map_err(|error| {
            Error::Other(format!("publish ports of container {} again: {error}", endpoint.container_id))
        })?;
        served?;
        first_error.map_or(Ok(()), Err)
    }

    /// Gives address and ports back. The veth dies with the container's netns. Never fails halfway; unknown is fine.
    pub fn release(&self, endpoint: &Endpoint) {
        let books = &mut *self.books();
        // What was recorded at the time counts, not what the caller brings.
        let Some(endpoint) = books.endpoints.remove(&endpoint.id) else { return };
        if let Err(error) = books.table.withdraw(&elements(&endpoint.ports, endpoint.ip)) {
            tracing::warn!(container = %endpoint.container_id, %error, "withdraw published ports");
        }
        if endpoint.ports.iter().any(|port| port.protocol == Protocol::Udp) {
            books.forget_flows(conntrack::forget_container(books.table.socket(), endpoint.ip));
        }
        books.unserve(&endpoint.id);
        endpoint.ports.iter().for_each(|port| books.ports.release(port));
        books.pool.give_back(endpoint.ip);
    }

    /// After all `adopt`s of a start: removes nft elements and veths that belong to no endpoint.
    pub fn sweep(&self) -> Result<(), Error> {
        let books = &mut *self.books();
        let wanted: Vec<Element> =
            books.endpoints.values().flat_map(|endpoint| elements(&endpoint.ports, endpoint.ip)).collect();
        let present = books.table.elements().map_err(|error| Error::Other(format!("read published ports: {error}")))?;
        let stale: Vec<Element> = present.into_iter().filter(|element| !wanted.contains(element)).collect();
        books.table.withdraw(&stale).map_err(|error| Error::Other(format!("remove stale ports: {error}")))?;
        let known = |name: &str| books.endpoints.values().any(|endpoint| endpoint.host_device == name);
        for device in bridge::devices(&books.route)? {
            if device.master == Some(books.bridge_index) && is_ours(&device.name) && !known(&device.name) {
                bridge::delete(&books.route, device.index)?;
            }
        }
        Ok(())
    }

    /// Removes bridge and table (clean shut-down of test engines: `hoist engine` leaves them by default).
    pub fn remove_all(&self) -> Result<(), Error> {
        let books = &mut *self.books();
        books.removed = true;
        for (id, endpoint) in std::mem::take(&mut books.endpoints) {
            books.unserve(&id);
            endpoint.ports.iter().for_each(|port| books.ports.release(port));
            books.pool.give_back(endpoint.ip);
        }
        let removed = forward::remove(books.table.socket(), &books.rules.bridge).and(books.table.remove());
        if books.default.own_bridge {
            bridge::delete(&books.route, books.bridge_index)?;
        }
        removed
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing in here panics between two changes that belong together.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a device's name is one that we give.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(DEVICE_PREFIX)
        .is_some_and(|digits| digits.len() == DEVICE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
