//! The books of all networks of an engine, and what they say put into the kernel.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use hoist_sys::netlink::Socket;

use crate::default_bridge;
use crate::element::Element;
use crate::ipam::Pool;
use crate::link::Wiring;
use crate::nft::{Ruleset, Table};
use crate::ports::{Ports, Reserved};
use crate::proxy::Proxy;
use crate::store::Stored;
use crate::{Endpoint, Error, PublishedPort, bridge, conntrack, forward};

/// Where our numbers for the host's ends begin: far above those that the kernel gives by itself.
pub(super) const FIRST_LINK_INDEX: u32 = 1 << 20;
pub(super) const LAST_LINK_INDEX: u32 = 1 << 27;

#[derive(Debug)]
pub(crate) struct Books {
    pub(super) default: Stored,
    pub(super) rules: Ruleset,
    pub(super) bridge_index: u32,
    pub(super) pool: Pool,
    pub(super) ports: Ports,
    pub(super) endpoints: HashMap<String, Endpoint>,
    pub(super) proxy: Proxy,
    /// Without a proxy: sockets that only keep a published port from others, by endpoint.
    pub(super) held: HashMap<String, Vec<OwnedFd>>,
    pub(super) next_link_index: u32,
    pub(super) hairpin: bool,
    /// Everything was taken away on purpose: nothing is to be put back.
    pub(super) removed: bool,
    pub(super) route: Socket,
    pub(super) table: Table,
}

impl Books {
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Puts back what others removed from the firewall. Called when somebody else changed it.
    pub(crate) fn reassert(&mut self) {
        if self.removed {
            return;
        }
        self.hairpin = bridge::bridged_frames_are_filtered();
        let wanted: Vec<Element> =
            self.endpoints.values().flat_map(|endpoint| elements(&endpoint.ports, endpoint.ip)).collect();
        let repaired = self.table.is_whole(&self.rules).map_err(|error| Error::Other(error.to_string()));
        match repaired
            .and_then(|whole| if whole { Ok(true) } else { self.table.replace(&self.rules, &wanted).and(Ok(false)) })
        {
            Ok(true) => {}
            Ok(false) => tracing::warn!(bridge = %self.rules.bridge, "somebody removed the nf_tables rules: put back"),
            Err(error) => tracing::error!(bridge = %self.rules.bridge, %error, "put the nf_tables rules back"),
        }
        self.open_firewalls();
    }

    /// Somebody may have removed the bridge. Containers that were on it are cut off until they are started again.
    pub(super) fn mend_bridge(&mut self) -> Result<(), Error> {
        let name = &self.rules.bridge;
        if self.removed || bridge::is_there(&self.route, name, self.bridge_index) {
            return Ok(());
        }
        if !self.default.own_bridge {
            return Err(Error::Other(format!("the bridge {name} is gone: make it again and restart the engine")));
        }
        let index = default_bridge::make_again(&self.route, &self.default.network)?;
        if self.rules.loopback {
            bridge::route_loopback(name)?;
        }
        // Last: until all is done the next container tries again.
        self.bridge_index = index;
        self.open_firewalls();
        tracing::warn!(bridge = %name, "somebody removed the bridge: made again, running containers need a restart");
        Ok(())
    }

    /// Clears away what other engines left whose bridges are gone. Only at a start: two engines that did it whenever the
    /// firewall changes could keep each other busy.
    pub(super) fn remove_orphans(&self) {
        let removed = bridge::devices(&self.route).and_then(|devices| {
            let is_device = |name: &str| devices.iter().any(|device| device.name == name);
            forward::remove_orphans(self.table.socket(), is_device).and(self.table.remove_orphans(is_device))
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "remove rules that other engines left");
        }
    }

    /// A firewall of others that cannot be opened leaves containers without a network, not the engine without a start.
    pub(super) fn open_firewalls(&self) {
        if let Err(error) = forward::ensure(self.table.socket(), &self.rules.bridge) {
            tracing::warn!(bridge = %self.rules.bridge, %error, "containers may be cut off by another firewall");
        }
    }

    /// Makes reserved ports lead to the container; on error they do not.
    pub(super) fn publish(
        &mut self,
        id: &str,
        ip: Ipv4Addr,
        ports: &[PublishedPort],
        reserved: Vec<Reserved>,
    ) -> Result<(), Error> {
        let elements = elements(ports, ip);
        let published = self.table.publish(&elements).or_else(|error| match error.kind() {
            // Somebody flushed all rules just now, and the watcher was slower.
            std::io::ErrorKind::NotFound => {
                self.reassert();
                self.table.publish(&elements)
            }
            _ => Err(error),
        });
        published.map_err(|error| Error::Other(format!("nf_tables: {error}")))?;
        self.forget_flows(conntrack::forget_unpublished(self.table.socket(), &elements));
        let served = self.serve(id, ip, reserved);
        if served.is_err()
            && let Err(error) = self.table.withdraw(&elements)
        {
            tracing::warn!(%error, "withdraw published ports");
        }
        served
    }

    /// Without it some UDP clients wait until their flow times out.
    pub(super) fn forget_flows(&self, result: Result<(), Error>) {
        if let Err(error) = result {
            tracing::warn!(bridge = %self.rules.bridge, %error, "UDP clients may have to wait");
        }
    }

    pub(super) fn serve(&mut self, id: &str, ip: Ipv4Addr, reserved: Vec<Reserved>) -> Result<(), Error> {
        for Reserved { port, socket } in reserved {
            let Some(socket) = socket else { continue };
            if self.rules.loopback {
                self.held.entry(id.to_owned()).or_default().push(socket);
                continue;
            }
            if let Err(error) = self.proxy.serve(id, port.protocol, socket, SocketAddrV4::new(ip, port.container_port))
            {
                self.unserve(id);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn unserve(&mut self, id: &str) {
        self.held.remove(id);
        self.proxy.withdraw(id);
    }

    pub(super) fn wiring(&mut self, mac: [u8; 6], mtu: u32, icc: bool) -> Wiring {
        let host_index = self.next_link_index;
        self.next_link_index = if host_index >= LAST_LINK_INDEX { FIRST_LINK_INDEX } else { host_index + 1 };
        // Where bridged frames pass the firewall its `forward` chain keeps containers apart, and published ports of
        // siblings stay reachable; elsewhere only the bridge itself can do it.
        let isolated = !icc && !self.hairpin;
        Wiring { bridge_index: self.bridge_index, host_index, mac, mtu, hairpin: self.hairpin, isolated }
    }
}

/// What publishes these ports.
pub(super) fn elements(ports: &[PublishedPort], ip: Ipv4Addr) -> Vec<Element> {
    ports.iter().filter_map(|port| Element::of(port, ip)).collect()
}
