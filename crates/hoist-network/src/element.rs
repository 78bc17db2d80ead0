//! A published port as the kernel's NAT knows it: one element of a map in our nf_tables table (`nft`). Pure.

use std::net::{IpAddr, Ipv4Addr};

use crate::{Protocol, PublishedPort};

/// One element of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// `None`: all addresses of the host.
    pub(crate) host_ip: Option<Ipv4Addr>,
    pub(crate) protocol: u8,
    pub(crate) host_port: u16,
    pub(crate) target: Ipv4Addr,
    pub(crate) target_port: u16,
}

impl Element {
    /// The element for a published port; `None` where the kernel's NAT has no part (IPv6, loopback).
    pub(crate) fn of(port: &PublishedPort, target: Ipv4Addr) -> Option<Element> {
        let host_ip = match port.host_ip {
            IpAddr::V4(ip) if ip.is_unspecified() => None,
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            _ => return None,
        };
        let protocol = protocol_number(port.protocol);
        Some(Element { host_ip, protocol, host_port: port.host_port, target, target_port: port.container_port })
    }

    /// The map it belongs to.
    pub(crate) fn map(&self) -> &'static str {
        if self.host_ip.is_some() { "by_address" } else { "by_port" }
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(12);
        key.extend(self.host_ip.iter().flat_map(|ip| ip.octets()));
        key.extend([self.protocol, 0, 0, 0]);
        key.extend(self.host_port.to_be_bytes());
        key.extend([0; 2]);
        key
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        let mut data = self.target.octets().to_vec();
        data.extend(self.target_port.to_be_bytes());
        data.extend([0; 2]);
        data
    }

    pub(crate) fn parse(key: &[u8], data: &[u8]) -> Option<Element> {
        let (host_ip, rest) = match key.len() {
            12 => (Some(Ipv4Addr::from(<[u8; 4]>::try_from(&key[..4]).ok()?)), &key[4..]),
            8 => (None, key),
            _ => return None,
        };
        let be16 = |bytes: &[u8]| bytes.try_into().ok().map(u16::from_be_bytes);
        Some(Element {
            host_ip,
            protocol: rest[0],
            host_port: be16(&rest[4..6])?,
            target: Ipv4Addr::from(<[u8; 4]>::try_from(data.get(..4)?).ok()?),
            target_port: be16(data.get(4..6)?)?,
        })
    }
}

/// The number of IPPROTO_*.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
