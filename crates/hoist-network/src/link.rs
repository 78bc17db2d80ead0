//! The bytes that give a container its device: a veth(4) pair whose peer is born inside the container's namespace, and
//! what is then set from within. Pure; the runtime sends them.

use std::net::Ipv4Addr;

use crate::message::{Attributes, Batch, flag};
use crate::{Endpoint, Setup};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
pub(crate) const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_TARGET_NETNSID: u16 = 46;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
pub(crate) const IFA_ADDRESS: u16 = 1;
pub(crate) const IFA_LOCAL: u16 = 2;
pub(crate) const IFA_BROADCAST: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_LLADDR: u16 = 2;
const NTF_MASTER: u8 = 4;
const NUD_NOARP: u16 = 0x40;

pub(crate) const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u16 = 10;
pub(crate) const IFF_UP: u32 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

const LOOPBACK_INDEX: u32 = 1;
/// Index of `eth0` inside: told to the kernel, so that the addresses and routes can be written before the device exists.
/// Above the numbers of the tunnel devices that some modules put into every new namespace.
const INSIDE_INDEX: u32 = 100;

/// What the bytes need to know beyond the endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiring {
    pub(crate) bridge_index: u32,
    /// Index for the host's end. veth takes a chosen index for the peer only if both ends have one.
    pub(crate) host_index: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    /// Frames may go back out of the port they came from: what br_netfilter makes of a container that connects to its own
    /// published port.
    pub(crate) hairpin: bool,
    /// The port reaches the host only, not its sibling ports.
    pub(crate) isolated: bool,
}

pub(crate) fn setup(endpoint: &Endpoint, wiring: &Wiring) -> Setup {
    let (host_batch, netns_fd_at) = host_batch(endpoint, wiring);
    Setup { host_batch, netns_fd_at, netns_batch: netns_batch(endpoint, wiring) }
}

fn host_batch(endpoint: &Endpoint, wiring: &Wiring) -> (Vec<u8>, Vec<usize>) {
    let mut netns_fd_at = 0;
    let mut batch = Batch::new();
    let flags = flag::ACK | flag::CREATE | flag::EXCL;
    batch.add(RTM_NEWLINK, flags, &link_header(wiring.host_index, IFF_UP, IFF_UP), |a| {
        a.text(IFLA_IFNAME, &endpoint.host_device);
        a.u32(IFLA_MTU, wiring.mtu);
        a.u32(IFLA_MASTER, wiring.bridge_index);
        one_queue(a);
        a.nest(IFLA_LINKINFO, |a| {
            a.text(IFLA_INFO_KIND, "veth");
            a.nest(IFLA_INFO_DATA, |a| {
                a.nest(VETH_INFO_PEER, |a| {
                    a.raw(&link_header(INSIDE_INDEX, 0, 0));
                    a.text(IFLA_IFNAME, "eth0");
                    a.put(IFLA_ADDRESS, &wiring.mac);
                    a.u32(IFLA_MTU, wiring.mtu);
                    one_queue(a);
                    netns_fd_at = a.put_at(IFLA_NET_NS_FD, &u32::MAX.to_ne_bytes());
                });
            });
        });
    });
    // The bridge is told where the address lives: its memory may still point to the port of a predecessor with the same
    // address, whose removal the kernel has not finished.
    let flags = flag::ACK | flag::CREATE | flag::REPLACE;
    batch.add(RTM_NEWNEIGH, flags, &neighbour_header(wiring.host_index), |a| a.put(NDA_LLADDR, &wiring.mac));
    if wiring.hairpin || wiring.isolated {
        let mut header = link_header(wiring.host_index, 0, 0);
        header[0] = AF_BRIDGE;
        batch.add(RTM_SETLINK, flag::ACK, &header, |a| {
            a.nest(IFLA_PROTINFO, |a| {
                a.u8(IFLA_BRPORT_MODE, u8::from(wiring.hairpin));
                a.u8(IFLA_BRPORT_ISOLATED, u8::from(wiring.isolated));
            });
        });
    }
    (batch.into_bytes(), vec![netns_fd_at])
}

fn netns_batch(endpoint: &Endpoint, wiring: &Wiring) -> Vec<u8> {
    let mut batch = Batch::new();
    let broadcast = crate::ipam::Subnet::new(endpoint.ip, endpoint.prefix).broadcast();
    batch.add(RTM_NEWLINK, flag::ACK, &link_header(INSIDE_INDEX, 0, 0), disable_ipv6_addresses);
    let flags = flag::ACK | flag::CREATE | flag::EXCL;
    batch.add(RTM_NEWADDR, flags, &address_header(endpoint.prefix, INSIDE_INDEX), |a| {
        a.put(IFA_LOCAL, &endpoint.ip.octets());
        a.put(IFA_ADDRESS, &endpoint.ip.octets());
        a.put(IFA_BROADCAST, &broadcast.octets());
    });
    batch.add(RTM_NEWLINK, flag::ACK, &link_header(INSIDE_INDEX, IFF_UP, IFF_UP), |_| {});
    batch.add(RTM_NEWLINK, flag::ACK, &link_header(LOOPBACK_INDEX, IFF_UP, IFF_UP), |_| {});
    batch.add(RTM_NEWROUTE, flags, &default_route_header(), |a| a.put(RTA_GATEWAY, &endpoint.gateway.octets()));
    // The bridge learns in the background that its port has a carrier, and drops what comes before: an ARP request, which
    // would be repeated a second later. Looking at a device makes the kernel (from 6.8) do that work at once. From here
    // the host's namespace has the first number, being the peer's. Not acknowledged: nothing depends on it.
    for index in [wiring.host_index, wiring.bridge_index] {
        batch.add(RTM_GETLINK, 0, &link_header(index, 0, 0), |a| {
            a.u32(IFLA_TARGET_NETNSID, 0);
            without_statistics(a);
        });
    }
    batch.into_bytes()
}

/// For a container without a network: loopback up and nothing else.
pub fn loopback_only() -> Setup {
    let mut batch = Batch::new();
    batch.add(RTM_NEWLINK, flag::ACK, &link_header(LOOPBACK_INDEX, IFF_UP, IFF_UP), |_| {});
    Setup { netns_batch: batch.into_bytes(), ..Setup::default() }
}

/// Leaves the counters out of an answer, which are the most of it.
pub(crate) fn without_statistics(attributes: &mut Attributes<'_>) {
    attributes.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

/// One queue each way, which is what veth uses of the one for each processor that it makes unasked. Taking the others out of
/// use costs it a wait for RCU, at each end.
fn one_queue(attributes: &mut Attributes<'_>) {
    attributes.u32(IFLA_NUM_TX_QUEUES, 1);
    attributes.u32(IFLA_NUM_RX_QUEUES, 1);
}

/// No address is made up for IPv6, not even a link-local one: nothing would answer to it.
pub(crate) fn disable_ipv6_addresses(attributes: &mut Attributes<'_>) {
    attributes.nest(IFLA_AF_SPEC, |a| a.nest(AF_INET6, |a| a.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)));
}

/// Docker's rule for addresses without a wish: the IPv4 address after 02:42. The same address always has the same
/// hardware address, so that nobody's ARP memory is wrong when it is given to the next container.
pub(crate) fn mac_of(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x42, a, b, c, d]
}

pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // The kernel refuses group addresses and zeros (eth_validate_addr).
    let unicast = mac[0] & 1 == 0 && mac != [0; 6];
    (parts.next().is_none() && unicast).then_some(mac)
}

pub(crate) fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `struct ifinfomsg`
pub(crate) fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`
pub(crate) fn address_header(prefix: u8, index: u32) -> [u8; 8] {
    let mut header = [AF_INET, prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// `struct ndmsg` of a bridge's forwarding entry that does not age (`bridge fdb … master static`).
fn neighbour_header(index: u32) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = AF_BRIDGE;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_NOARP.to_ne_bytes());
    header[10] = NTF_MASTER;
    header
}

/// `struct rtmsg`
fn default_route_header() -> [u8; 12] {
    [AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_strictly_and_made_from_the_ip() {
        assert_eq!(parse_mac("02:42:AC:11:00:02"), Some([2, 0x42, 0xac, 0x11, 0, 2]));
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "01:42:ac:11:00:02",
            "00:00:00:00:00:00",
            "+2:42:ac:11:00:02",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
        assert_eq!(format_mac(mac_of(Ipv4Addr::new(172, 17, 0, 2))), "02:42:ac:11:00:02");
    }
}
