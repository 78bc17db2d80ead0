//! Networks as the API shows them, and ports from Docker's notation to requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hoist_api::container::Config;
use hoist_api::filters::Filters;
use hoist_api::host_config::HostConfig;
use hoist_api::network::{Ipam, IpamPool, Network, NetworkContainer};
use hoist_api::time::rfc3339_nano;
use hoist_network::{PortRequest, Protocol};

use crate::containers::Containers;
use crate::context::Context;
use crate::error::{Error, Result};

/// Filter keys of `GET /networks`.
pub const NETWORK_FILTER_KEYS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Docker's word for a protocol.
pub(crate) fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// `80/tcp`, `80`
fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port = number.parse().ok().filter(|&p| p != 0);
    let port = port.ok_or_else(|| Error::invalid(format!("invalid port specification: {text}")))?;
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(Error::invalid(format!("invalid port specification: \"{text}\": invalid protocol"))),
    };
    Ok((port, protocol))
}

/// The ports a container wants published: bindings of exposed ports, and with `PublishAllPorts` the rest.
pub(crate) fn port_requests(config: &Config, host: &HostConfig) -> Result<Vec<PortRequest>> {
    let mut requests = Vec::new();
    let mut bound = Vec::new();
    for (key, bindings) in &host.port_bindings {
        let (container_port, protocol) = parse_port(key)?;
        for binding in bindings.iter().flatten() {
            let host_ip =
                match binding.host_ip.trim_matches(['[', ']']) {
                    "" => None,
                    text => Some(text.parse::<IpAddr>().map_err(|_| {
                        Error::invalid(format!("invalid port specification: invalid IP address: {text}"))
                    })?),
                };
            requests.push(PortRequest {
                container_port,
                protocol,
                host_ip,
                host_ports: host_ports(&binding.host_port)?,
            });
        }
        if bindings.as_ref().is_some_and(Vec::is_empty) {
            requests.push(PortRequest { container_port, protocol, host_ip: None, host_ports: (0, 0) });
        }
        bound.push((container_port, protocol));
    }
    let exposed: Vec<(u16, Protocol)> =
        config.exposed_ports.iter().flatten().map(|(key, _)| parse_port(key)).collect::<Result<_>>()?;
    // Docker publishes only what is exposed as well.
    requests.retain(|r| exposed.contains(&(r.container_port, r.protocol)));
    if host.publish_all_ports {
        for (container_port, protocol) in exposed {
            if !bound.contains(&(container_port, protocol)) {
                requests.push(PortRequest { container_port, protocol, host_ip: None, host_ports: (0, 0) });
            }
        }
    }
    Ok(requests)
}

/// ``, `0`, `8080`, `8000-8010`
fn host_ports(text: &str) -> Result<(u16, u16)> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.parse::<u16>(), to.parse::<u16>()) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
        _ => Err(Error::invalid(format!("invalid port specification: invalid host port: {text}"))),
    }
}

/// The handle on networks. Clones share it.
#[derive(Clone, Debug)]
pub struct Networks {
    context: Arc<Context>,
    containers: Containers,
}

impl Networks {
    pub(crate) fn new(containers: Containers) -> Networks {
        Networks { context: containers.context().clone(), containers }
    }

    /// All networks that pass the filters.
    pub fn list(&self, filters: &Filters) -> Vec<Network> {
        self.all()
            .into_iter()
            .filter(|n| {
                filters.any("name", |v| n.name.contains(v))
                    && filters.any("id", |v| n.id.contains(v))
                    && filters.any("driver", |v| n.driver == v)
                    && filters.any("scope", |v| n.scope == v)
                    && filters.any("type", |v| v == "builtin")
                    && filters.any("dangling", |v| matches!(v, "0" | "false"))
                    && filters.labels_match(&n.labels)
            })
            .collect()
    }

    /// By name, id or unique id prefix, with the containers in it.
    pub fn inspect(&self, name: &str) -> Result<Network> {
        let mut all = self.all();
        let position = all
            .iter()
            .position(|n| n.id == name)
            .or_else(|| all.iter().position(|n| n.name == name))
            .or_else(|| {
                let mut matching = all.iter().enumerate().filter(|(_, n)| !name.is_empty() && n.id.starts_with(name));
                matching.next().filter(|_| matching.next().is_none()).map(|(at, _)| at)
            })
            .ok_or_else(|| Error::not_found(format!("network {name} not found")))?;
        let mut network = all.swap_remove(position);
        network.containers = self.members(&network);
        Ok(network)
    }

    fn all(&self) -> Vec<Network> {
        let mut all: Vec<Network> = self
            .context
            .networks
            .list()
            .into_iter()
            .map(|n| Network {
                created: rfc3339_nano(n.created_ns),
                scope: "local".to_owned(),
                enable_ipv4: true,
                ipam: Ipam {
                    driver: "default".to_owned(),
                    options: None,
                    config: Some(vec![IpamPool {
                        subnet: format!("{}/{}", n.subnet.0, n.subnet.1),
                        gateway: n.gateway.to_string(),
                        ..IpamPool::default()
                    }]),
                },
                name: n.name,
                id: n.id,
                driver: n.driver,
                internal: n.internal,
                options: n.options,
                labels: n.labels,
                ..Network::default()
            })
            .collect();
        let created = all.first().map(|n| n.created.clone()).unwrap_or_default();
        for (name, driver) in [("host", "host"), ("none", "null")] {
            all.push(Network {
                name: name.to_owned(),
                id: builtin_id(name, &self.context),
                created: created.clone(),
                scope: "local".to_owned(),
                driver: driver.to_owned(),
                enable_ipv4: true,
                ipam: Ipam { driver: "default".to_owned(), options: None, config: None },
                ..Network::default()
            });
        }
        all
    }

    fn members(&self, network: &Network) -> BTreeMap<String, NetworkContainer> {
        let mut members = BTreeMap::new();
        for record in self.containers.records() {
            if !record.state.status.alive() {
                continue;
            }
            let mut member = NetworkContainer { name: record.name.clone(), ..NetworkContainer::default() };
            match &record.state.endpoint {
                Some(endpoint) if endpoint.network_id == network.id => {
                    member.endpoint_id.clone_from(&endpoint.id);
                    member.mac_address.clone_from(&endpoint.mac);
                    member.ipv4_address = format!("{}/{}", endpoint.ip, endpoint.prefix);
                }
                None if record.fixed.host_config.network_mode == network.name => {}
                _ => continue,
            }
            members.insert(record.id().to_owned(), member);
        }
        members
    }
}

/// A stable id for the networks that are not made: derived from the engine's bridge network.
fn builtin_id(name: &str, context: &Context) -> String {
    use std::hash::{Hash, Hasher};
    let bridge = context.networks.get("bridge").map(|n| n.id).unwrap_or_default();
    (0_u8..4)
        .map(|part| {
            let mut hasher = std::hash::DefaultHasher::new();
            (&bridge, name, part).hash(&mut hasher);
            format!("{:016x}", hasher.finish())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_api::network::PortBinding;

    #[test]
    fn only_exposed_ports_are_published() {
        let mut host = HostConfig::default();
        let binding = |port: &str| Some(vec![PortBinding { host_ip: String::new(), host_port: port.into() }]);
        host.port_bindings.insert("80/tcp".into(), binding("8080-8090"));
        let mut config = Config::default();
        assert_eq!(port_requests(&config, &host).unwrap(), []);
        config.exposed_ports = Some([("80/tcp".to_owned(), hoist_api::image::Empty {})].into());
        assert_eq!(port_requests(&config, &host).unwrap()[0].host_ports, (8080, 8090));
        host.port_bindings.insert("0/tcp".into(), binding("1"));
        assert!(port_requests(&config, &host).is_err());
    }
}
