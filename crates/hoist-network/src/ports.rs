//! Published ports on the host's side: which are taken, and the sockets that keep them taken. The sockets also are what
//! the proxy serves.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::{Error, PortRequest, Protocol, PublishedPort};

/// The kernel's own range when its file cannot be read.
const EPHEMERAL: (u16, u16) = (32768, 60999);
const BACKLOG: i32 = 4096;

/// A port taken for a container.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) port: PublishedPort,
    /// `None` for SCTP, which only the kernel's NAT serves.
    pub(crate) socket: Option<OwnedFd>,
}

/// Which ports are taken.
#[derive(Debug)]
pub(crate) struct Ports {
    taken: HashMap<(Protocol, u16), Vec<IpAddr>>,
    ephemeral: (u16, u16),
    /// Where the search for a free ephemeral port goes on, as Docker's: a port just freed is not the next one given.
    next: HashMap<Protocol, u16>,
    /// Whether a socket is to take connections, for the proxy, or only to keep the port.
    listens: bool,
}

impl Ports {
    pub(crate) fn new(listens: bool) -> Ports {
        Ports { taken: HashMap::new(), ephemeral: ephemeral_range(), next: HashMap::new(), listens }
    }

    /// Takes one host port on all addresses that the request asks for: the same number everywhere. `default_ip` is the
    /// engine's `--ip`, `container` only names the target in errors. Nothing stays taken after an error.
    pub(crate) fn reserve(
        &mut self,
        request: &PortRequest,
        default_ip: Option<IpAddr>,
        container: Ipv4Addr,
    ) -> Result<Vec<Reserved>, Error> {
        if request.container_port == 0 {
            return Err(Error::Other("invalid container port 0: must be between 1 and 65535".to_owned()));
        }
        let wanted = request.host_ip.or(default_ip);
        let (first, last) = request.host_ports;
        if last < first || (first == 0 && last != 0) {
            return Err(Error::Other(format!("invalid range of host ports {first}-{last}")));
        }
        let candidates = self.candidates(request);
        let mut refused = None;
        for host_port in candidates {
            match self.reserve_port(request, wanted, host_port, container) {
                Ok(reserved) => {
                    if first == 0 {
                        self.next.insert(request.protocol, host_port.saturating_add(1));
                    }
                    return Ok(reserved);
                }
                // Another number does not help against an address that this host does not have.
                Err(error @ Error::PortUnavailable { .. }) => return Err(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if first != 0 => Err(error),
            _ => Err(Error::Other("all ports are allocated".to_owned())),
        }
    }

    fn candidates(&self, request: &PortRequest) -> Box<dyn Iterator<Item = u16>> {
        let (first, last) = request.host_ports;
        if first != 0 {
            return Box::new(first..=last);
        }
        let (begin, end) = self.ephemeral;
        let start =
            self.next.get(&request.protocol).copied().filter(|next| (begin..=end).contains(next)).unwrap_or(begin);
        Box::new((start..=end).chain(begin..start))
    }

    fn reserve_port(
        &mut self,
        request: &PortRequest,
        wanted: Option<IpAddr>,
        host_port: u16,
        container: Ipv4Addr,
    ) -> Result<Vec<Reserved>, Error> {
        let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let addresses = wanted.as_ref().map_or(&everywhere[..], std::slice::from_ref);
        let mut reserved = Vec::with_capacity(addresses.len());
        for &host_ip in addresses {
            let port = PublishedPort {
                container_port: request.container_port,
                protocol: request.protocol,
                host_ip,
                host_port,
            };
            let taken = if self.is_taken(&port) {
                Err(Error::PortAllocated(SocketAddr::new(host_ip, host_port)))
            } else {
                open(&port, wanted.is_none(), container, self.listens)
            };
            match taken {
                Ok(Opened::Absent) => {}
                Ok(opened) => {
                    self.note(&port);
                    reserved.push(Reserved { port, socket: opened.into_socket() });
                }
                Err(error) => {
                    reserved.iter().for_each(|reserved: &Reserved| self.release(&reserved.port));
                    return Err(error);
                }
            }
        }
        Ok(reserved)
    }

    /// Takes a certain port back for a container that survived the engine. The port counts as taken whether or not its
    /// socket can be had: the kernel's NAT serves it.
    pub(crate) fn adopt(&mut self, port: &PublishedPort, container: Ipv4Addr) -> Result<Reserved, Error> {
        if !self.is_taken(port) {
            self.note(port);
        }
        let socket = open(port, false, container, self.listens)?.into_socket();
        Ok(Reserved { port: port.clone(), socket })
    }

    pub(crate) fn release(&mut self, port: &PublishedPort) {
        let key = (port.protocol, port.host_port);
        if let Some(addresses) = self.taken.get_mut(&key) {
            addresses.retain(|address| *address != port.host_ip);
            if addresses.is_empty() {
                self.taken.remove(&key);
            }
        }
    }

    fn note(&mut self, port: &PublishedPort) {
        self.taken.entry((port.protocol, port.host_port)).or_default().push(port.host_ip);
    }

    fn is_taken(&self, port: &PublishedPort) -> bool {
        let clash = |taken: &IpAddr| {
            taken.is_ipv4() == port.host_ip.is_ipv4()
                && (taken.is_unspecified() || port.host_ip.is_unspecified() || *taken == port.host_ip)
        };
        self.taken.get(&(port.protocol, port.host_port)).is_some_and(|taken| taken.iter().any(clash))
    }
}

/// What stands for a port on the host.
enum Opened {
    Socket(OwnedFd),
    /// SCTP: NAT serves it, without a socket.
    NatOnly,
    /// This host has no IPv6, and nobody asked for it by name.
    Absent,
}

impl Opened {
    fn into_socket(self) -> Option<OwnedFd> {
        match self {
            Opened::Socket(socket) => Some(socket),
            Opened::NatOnly | Opened::Absent => None,
        }
    }
}

fn open(port: &PublishedPort, ipv6_is_optional: bool, container: Ipv4Addr, listens: bool) -> Result<Opened, Error> {
    if port.protocol == Protocol::Sctp {
        // NAT serves IPv4 only, and no proxy could stand in for IPv6 or loopback.
        return match port.host_ip {
            IpAddr::V4(ip) if !ip.is_loopback() => Ok(Opened::NatOnly),
            IpAddr::V6(_) if ipv6_is_optional => Ok(Opened::Absent),
            ip => Err(Error::Other(format!("SCTP ports cannot be published on address {ip}"))),
        };
    }
    match open_socket(port, listens) {
        Ok(socket) => Ok(Opened::Socket(socket)),
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if ipv6_is_optional && port.host_ip.is_ipv6() => {
            Ok(Opened::Absent)
        }
        Err(errno) => {
            let host = SocketAddr::new(port.host_ip, port.host_port);
            let target = format!("{container}:{}/{}", port.container_port, port.protocol);
            Err(match errno {
                Errno::ADDRINUSE => Error::PortInUse { host, target },
                _ => Error::PortUnavailable { host, target, reason: reason(errno) },
            })
        }
    }
}

/// The kernel's words in the form that Go prints.
fn reason(errno: Errno) -> String {
    match errno {
        Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        other => other.to_string(),
    }
}

fn open_socket(port: &PublishedPort, listens: bool) -> Result<OwnedFd, Errno> {
    let family = if port.host_ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if port.protocol == Protocol::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if port.host_ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // One that only keeps the port does so without it: two that reuse an address and do not listen get along.
    if port.protocol == Protocol::Tcp && listens {
        // Connections of the last user in TIME_WAIT must not keep the port; another listener still does.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(port.host_ip, port.host_port))?;
    if port.protocol == Protocol::Tcp && listens {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn ephemeral_range() -> (u16, u16) {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first > 0 && first <= last => (first, last),
        _ => EPHEMERAL,
    }
}
