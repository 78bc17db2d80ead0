//! The default network: choosing its subnet, and making its bridge device true whatever the machine looks like.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hoist_db::Db;
use hoist_sys::netlink::Socket;

use crate::ipam::{self, Subnet};
use crate::store::{self, Stored};
use crate::{Config, Error, Network, bridge, routes};

/// The name under which Docker knows the default network.
pub(crate) const NAME: &str = "bridge";
const DEFAULT_MTU: u32 = 1500;
/// Engines that start at the same moment may pick the same subnet; each sees that and tries again.
const PICKS: usize = 16;

/// A device name takes IFNAMSIZ bytes with its end.
const MAX_DEVICE_NAME_BYTES: usize = 15;
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;

/// Refuses settings that could not work, before anything is touched.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::Other(text));
    let name = config.bridge.as_str();
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if name.is_empty() || name.len() > MAX_DEVICE_NAME_BYTES || !legal || matches!(name, "." | "..") {
        return refuse(format!("invalid bridge name {name:?}: 1 to 15 letters, digits, '_', '-' or '.'"));
    }
    if config.mtu != 0 && !MTU_RANGE.contains(&config.mtu) {
        return refuse(format!("invalid MTU {}: must be between 68 and 65535", config.mtu));
    }
    ipam::check_pools(&config.default_address_pools)?;
    if let Some((address, prefix)) = config.bip {
        let subnet = Subnet::new(address, prefix);
        if prefix > 30 || prefix == 0 || address == subnet.base() || address == subnet.broadcast() {
            return refuse(format!("invalid bridge address {address}/{prefix}: not a host's address in its subnet"));
        }
    }
    match (config.fixed_cidr, config.bip) {
        (Some((base, prefix)), _) if prefix > 32 => refuse(format!("invalid fixed CIDR {base}/{prefix}")),
        (Some((base, prefix)), Some((address, outer))) => {
            let subnet = Subnet::new(address, outer);
            if prefix < outer || !subnet.contains(base) {
                return refuse(format!("fixed CIDR {base}/{prefix} is not within the bridge's subnet {subnet}"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Makes device, address and record agree; returns the network and the device's index.
pub(crate) fn ensure(db: &Db, socket: &Socket, config: &Config) -> Result<(Stored, u32), Error> {
    let stored = store::list(db)?.into_iter().find(|stored| stored.network.name == NAME);
    let found = bridge::find(socket, &config.bridge)?;
    let addresses = found.map_or(Ok(Vec::new()), |index| bridge::addresses(socket, index))?;
    let known = stored.as_ref().filter(|stored| stored.network.bridge == config.bridge);
    // A bridge that was there before us and has an address is the administrator's: taken as it is.
    let own_bridge = match known {
        Some(known) => known.own_bridge || found.is_none(),
        None => addresses.is_empty(),
    };
    let index = match found {
        Some(index) => index,
        None => bridge::create(socket, &config.bridge)?,
    };
    let gateway = if own_bridge || config.bip.is_some() {
        own_gateway(socket, config, known, (index, &addresses))
    } else {
        addresses.first().copied().ok_or_else(|| Error::Other(format!("bridge {} has no IPv4 address", config.bridge)))
    };
    let settled = gateway.and_then(|gateway| {
        let mtu = if config.mtu == 0 { DEFAULT_MTU } else { config.mtu };
        bridge::bring_up(socket, &config.bridge, index, mtu, own_bridge)?;
        let network = define(config, stored.as_ref().map(|stored| &stored.network), gateway, mtu);
        // Recorded in the same form it is compared in, so that a start without changes writes nothing.
        let now = Stored { network, own_bridge };
        let same = stored.as_ref().is_some_and(|stored| same(stored, &now));
        if !same {
            store::save(db, &now)?;
        }
        Ok((now, index))
    });
    if settled.is_err() && found.is_none() {
        // The first error counts; a bridge that nobody can use must not stay.
        let _kept_on_failure = bridge::delete(socket, index);
    }
    settled
}

/// Makes a bridge of ours again that somebody removed, as it was, or takes the one of that name that is there now; returns
/// the device's index.
pub(crate) fn make_again(socket: &Socket, network: &Network) -> Result<u32, Error> {
    let found = bridge::find(socket, &network.bridge)?;
    let index = found.map_or_else(|| bridge::create(socket, &network.bridge), Ok)?;
    let made = bridge::add_address(socket, index, (network.gateway, network.subnet.1))
        .and_then(|()| bridge::bring_up(socket, &network.bridge, index, network.mtu, true));
    if made.is_err() && found.is_none() {
        let _kept_on_failure = bridge::delete(socket, index);
    }
    made.map(|()| index)
}

fn same(a: &Stored, b: &Stored) -> bool {
    let text = |stored: &Stored| serde_json::to_string(&stored.network).ok();
    a.own_bridge == b.own_bridge && text(a) == text(b)
}

/// Settles the address of a bridge of our own and puts it on the device.
fn own_gateway(
    socket: &Socket,
    config: &Config,
    known: Option<&Stored>,
    (index, present): (u32, &[(Ipv4Addr, u8)]),
) -> Result<(Ipv4Addr, u8), Error> {
    let earlier = known.map(|known| (known.network.gateway, known.network.subnet.1));
    if let Some(gateway) = config.bip.or(earlier.filter(|earlier| present.contains(earlier))) {
        only_address(socket, index, present, gateway)?;
        return Ok(gateway);
    }
    for _ in 0..PICKS {
        let used = routes::used(socket, Some(index))?;
        let free = |(gateway, prefix): &(Ipv4Addr, u8)| {
            let subnet = Subnet::new(*gateway, *prefix);
            !used.iter().any(|used| used.overlaps(subnet))
        };
        let gateway = match earlier.filter(free) {
            Some(earlier) => earlier,
            None => {
                let subnet = ipam::pick_subnet(&config.default_address_pools, &used)?;
                (subnet.first_host(), subnet.as_pair().1)
            }
        };
        only_address(socket, index, present, gateway)?;
        // Its route exists only now; somebody may have taken the same subnet in the meantime.
        let subnet = Subnet::new(gateway.0, gateway.1);
        if !routes::used(socket, Some(index))?.iter().any(|used| used.overlaps(subnet)) {
            return Ok(gateway);
        }
        bridge::remove_address(socket, index, gateway)?;
        std::thread::sleep(Duration::from_millis(rand::random_range(1..20)));
    }
    Err(Error::Other(format!("no subnet for bridge {}: others keep taking the free ones", config.bridge)))
}

/// Puts `wanted` on the device and takes all other addresses away.
fn only_address(socket: &Socket, index: u32, present: &[(Ipv4Addr, u8)], wanted: (Ipv4Addr, u8)) -> Result<(), Error> {
    for &other in present.iter().filter(|address| **address != wanted) {
        bridge::remove_address(socket, index, other)?;
    }
    bridge::add_address(socket, index, wanted)
}

fn define(config: &Config, earlier: Option<&Network>, (gateway, prefix): (Ipv4Addr, u8), mtu: u32) -> Network {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
    let binding = config.default_publish_ip.map_or("0.0.0.0".to_owned(), |ip| ip.to_string());
    let options = [
        ("com.docker.network.bridge.default_bridge", "true".to_owned()),
        ("com.docker.network.bridge.enable_icc", config.icc.to_string()),
        ("com.docker.network.bridge.enable_ip_masquerade", "true".to_owned()),
        ("com.docker.network.bridge.host_binding_ipv4", binding),
        ("com.docker.network.bridge.name", config.bridge.clone()),
        ("com.docker.network.driver.mtu", mtu.to_string()),
    ];
    Network {
        id: earlier.map_or_else(random_id, |earlier| earlier.id.clone()),
        name: NAME.to_owned(),
        driver: "bridge".to_owned(),
        created_ns: earlier.map_or_else(|| i64::try_from(age).unwrap_or(i64::MAX), |earlier| earlier.created_ns),
        bridge: config.bridge.clone(),
        subnet: Subnet::new(gateway, prefix).as_pair(),
        gateway,
        mtu,
        labels: BTreeMap::new(),
        options: options.map(|(key, value)| (key.to_owned(), value)).into(),
        internal: false,
    }
}

/// 64 hex digits.
pub(crate) fn random_id() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
