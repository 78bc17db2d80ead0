//! What the host already routes: so that no network of ours covers it. Reads rtnetlink(7) and resolv.conf(5).

use std::net::Ipv4Addr;

use hoist_sys::netlink::Socket;

use crate::Error;
use crate::ipam::Subnet;
use crate::message::{Batch, flag, split, u32_at};

const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const AF_INET: u8 = 2;
const RTMSG_BYTES: usize = 12;

/// Shorter prefixes are no networks but ways out: default routes, and the halves of everything that some VPNs route.
const SHORTEST_NETWORK: u8 = 8;

/// The prefixes that the host has IPv4 routes for, but for those through device `except`; and the
/// name servers of its resolv.conf, which containers must be able to reach.
pub(crate) fn used(socket: &Socket, except: Option<u32>) -> Result<Vec<Subnet>, Error> {
    let mut request = Batch::new();
    let mut header = [0; RTMSG_BYTES];
    header[0] = AF_INET;
    request.add(RTM_GETROUTE, flag::DUMP, &header, |_| {});
    let answers = socket
        .request_dump(request.as_bytes())
        .map_err(|error| Error::Other(format!("read the host's routes: {error}")))?;
    let mut used: Vec<Subnet> = answers.iter().filter_map(|answer| destination(answer, except)).collect();
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    used.extend(crate::resolver::nameservers(&resolv_conf).filter_map(|server| match server.parse::<Ipv4Addr>() {
        Ok(address) if !address.is_loopback() => Some(Subnet::new(address, 32)),
        _ => None,
    }));
    Ok(used)
}

fn destination(answer: &[u8], except: Option<u32>) -> Option<Subnet> {
    let (header, attributes) = split(answer, RTMSG_BYTES)?;
    let device = attributes.get(RTA_OIF).and_then(|value| u32_at(value, 0));
    if header[0] != AF_INET || header[1] < SHORTEST_NETWORK || (device.is_some() && device == except) {
        return None;
    }
    Some(Subnet::new(attributes.ipv4(RTA_DST)?, header[1]))
}
