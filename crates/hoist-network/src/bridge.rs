//! Bridge devices on the host: finding, making, addressing and removing them by rtnetlink(7), and the kernel settings
//! that forwarding needs.

use std::fs;
use std::net::Ipv4Addr;

use hoist_sys::netlink::Socket;
use rustix::io::Errno;

use crate::Error;
use crate::link::{
    AF_INET, IFA_ADDRESS, IFA_BROADCAST, IFA_LOCAL, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_MTU, RTM_DELLINK, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK, address_header,
    disable_ipv6_addresses, link_header, without_statistics,
};
use crate::message::{Batch, flag, split, u32_at};

const RTM_DELADDR: u16 = 21;
const IFINFOMSG_BYTES: usize = 16;
const IFADDRMSG_BYTES: usize = 8;

/// A device as the kernel lists it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Index of the bridge it is a port of.
    pub(crate) master: Option<u32>,
}

/// All devices of the namespace.
pub(crate) fn devices(socket: &Socket) -> Result<Vec<Device>, Error> {
    let mut request = Batch::new();
    request.add(RTM_GETLINK, flag::DUMP, &link_header(0, 0, 0), without_statistics);
    let answers =
        socket.request_dump(request.as_bytes()).map_err(|e| Error::Other(format!("list network devices: {e}")))?;
    Ok(answers.iter().filter_map(|answer| device(answer)).collect())
}

fn device(answer: &[u8]) -> Option<Device> {
    let (header, attributes) = split(answer, IFINFOMSG_BYTES)?;
    let kind = attributes.nested(IFLA_LINKINFO).and_then(|info| info.text(IFLA_INFO_KIND));
    Some(Device {
        index: u32_at(header, 4)?,
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        kind: kind.unwrap_or_default().to_owned(),
        master: attributes.u32(IFLA_MASTER),
    })
}

/// Finds the bridge `name`; a device of another kind under that name is an error.
pub(crate) fn find(socket: &Socket, name: &str) -> Result<Option<u32>, Error> {
    match devices(socket)?.into_iter().find(|device| device.name == name) {
        Some(device) if device.kind == "bridge" => Ok(Some(device.index)),
        Some(device) => Err(Error::Other(format!("device {name} exists already and is no bridge: {:?}", device.kind))),
        None => Ok(None),
    }
}

/// Whether the device of this name has still this index. By ioctl: a netlink request would wait for whoever changes
/// devices in that moment, which at the end of a network namespace takes milliseconds. What else goes wrong shows when the
/// device is used.
pub(crate) fn is_there(socket: &Socket, name: &str, index: u32) -> bool {
    match rustix::net::netdevice::name_to_index(socket, name) {
        Ok(found) => found == index,
        Err(errno) => errno != Errno::NODEV,
    }
}

/// Makes a bridge (down, without address) and returns its index. A fixed hardware address of its own keeps it from
/// changing to that of the lowest port whenever one comes or goes.
pub(crate) fn create(socket: &Socket, name: &str) -> Result<u32, Error> {
    let mut mac: [u8; 6] = rand::random();
    mac[0] = (mac[0] & 0xfc) | 0x02;
    let mut batch = Batch::new();
    batch.add(RTM_NEWLINK, flag::ACK | flag::CREATE | flag::EXCL, &link_header(0, 0, 0), |a| {
        a.text(IFLA_IFNAME, name);
        a.put(IFLA_ADDRESS, &mac);
        a.nest(IFLA_LINKINFO, |a| a.text(IFLA_INFO_KIND, "bridge"));
    });
    socket.send_batch(batch.as_bytes()).map_err(|error| Error::Other(format!("create bridge {name}: {error}")))?;
    find(socket, name)?.ok_or_else(|| Error::Other(format!("bridge {name} vanished after it was created")))
}

/// Sets MTU and link state; both may be set already. Devices of users keep their IPv6 settings.
pub(crate) fn bring_up(socket: &Socket, name: &str, index: u32, mtu: u32, ours: bool) -> Result<(), Error> {
    let mut batch = Batch::new();
    if ours {
        batch.add(RTM_NEWLINK, flag::ACK, &link_header(index, 0, 0), disable_ipv6_addresses);
        batch.add(RTM_NEWLINK, flag::ACK, &link_header(index, 0, 0), |a| a.u32(IFLA_MTU, mtu));
    }
    batch.add(RTM_NEWLINK, flag::ACK, &link_header(index, IFF_UP, IFF_UP), |_| {});
    socket.send_batch(batch.as_bytes()).map_err(|error| Error::Other(format!("bring bridge {name} up: {error}")))
}

/// The IPv4 addresses of a device.
pub(crate) fn addresses(socket: &Socket, index: u32) -> Result<Vec<(Ipv4Addr, u8)>, Error> {
    let mut request = Batch::new();
    request.add(RTM_GETADDR, flag::DUMP, &address_header(0, 0), |_| {});
    let answers = socket.request_dump(request.as_bytes()).map_err(|e| Error::Other(format!("list addresses: {e}")))?;
    let address = |answer: &Vec<u8>| {
        let (header, attributes) = split(answer, IFADDRMSG_BYTES)?;
        if header[0] != AF_INET || u32_at(header, 4)? != index {
            return None;
        }
        Some((attributes.ipv4(IFA_LOCAL).or_else(|| attributes.ipv4(IFA_ADDRESS))?, header[1]))
    };
    Ok(answers.iter().filter_map(address).collect())
}

/// Gives a device an address; one that it has already is fine.
pub(crate) fn add_address(socket: &Socket, index: u32, (address, prefix): (Ipv4Addr, u8)) -> Result<(), Error> {
    let mut batch = Batch::new();
    let flags = flag::ACK | flag::CREATE | flag::REPLACE;
    batch.add(RTM_NEWADDR, flags, &address_header(prefix, index), |a| {
        a.put(IFA_LOCAL, &address.octets());
        a.put(IFA_ADDRESS, &address.octets());
        a.put(IFA_BROADCAST, &crate::ipam::Subnet::new(address, prefix).broadcast().octets());
    });
    let fail = |error| Error::Other(format!("give the bridge the address {address}/{prefix}: {error}"));
    socket.send_batch(batch.as_bytes()).map_err(fail)
}

/// Takes an address from a device; one that is gone already is fine.
pub(crate) fn remove_address(socket: &Socket, index: u32, (address, prefix): (Ipv4Addr, u8)) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.add(RTM_DELADDR, flag::ACK, &address_header(prefix, index), |a| a.put(IFA_LOCAL, &address.octets()));
    match socket.send_batch(batch.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::AddrNotAvailable => {
            Err(Error::Other(format!("take the address {address}/{prefix} from the bridge: {error}")))
        }
        _ => Ok(()),
    }
}

/// Deletes a device; one that is gone already is fine.
pub(crate) fn delete(socket: &Socket, index: u32) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.add(RTM_DELLINK, flag::ACK, &link_header(index, 0, 0), |_| {});
    match socket.send_batch(batch.as_bytes()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            Err(Error::Other(format!("delete network device {index}: {error}")))
        }
        _ => Ok(()),
    }
}

/// Switches IPv4 forwarding on if it is off.
pub(crate) fn enable_forwarding() -> Result<(), Error> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    let fail = |error| Error::Other(format!("enable IPv4 forwarding: {PATH}: {error}"));
    if fs::read_to_string(PATH).map_err(fail)?.trim() == "0" {
        fs::write(PATH, "1").map_err(fail)?;
    }
    Ok(())
}

/// Lets packets from loopback addresses leave by the bridge. The table refuses what comes in by it for them.
pub(crate) fn route_loopback(bridge: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    fs::write(&path, "1").map_err(|error| Error::Other(format!("route loopback addresses: {path}: {error}")))
}

/// Whether frames between two ports of a bridge pass the IPv4 firewall (br_netfilter).
pub(crate) fn bridged_frames_are_filtered() -> bool {
    fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value.trim() == "1")
}
