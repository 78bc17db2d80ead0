//! Addresses: IPv4 subnets as values, the choice of a free one, and who has which address in a subnet. Pure; the books
//! live in memory, the caller gives endpoints back after a restart.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use crate::Error;

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// The prefix that `address` lies in; host bits are dropped.
    pub(crate) fn new(address: Ipv4Addr, prefix: u8) -> Subnet {
        let prefix = prefix.min(32);
        Subnet { base: u32::from(address) & mask(prefix), prefix }
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    pub(crate) fn overlaps(self, other: Subnet) -> bool {
        let prefix = self.prefix.min(other.prefix);
        self.base & mask(prefix) == other.base & mask(prefix)
    }

    pub(crate) fn base(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    pub(crate) fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(mask(self.prefix))
    }

    pub(crate) fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base | !mask(self.prefix))
    }

    /// The first address that a host can have.
    pub(crate) fn first_host(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base.saturating_add(1))
    }

    pub(crate) fn as_pair(self) -> (Ipv4Addr, u8) {
        (self.base(), self.prefix)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// Docker's own list of (base, base prefix, size of the parts).
const DOCKER_POOLS: &[(Ipv4Addr, u8, u8)] = &[
    (Ipv4Addr::new(172, 17, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 18, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 19, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 20, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 24, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 28, 0, 0), 14, 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16, 20),
];

/// The first part of `pools` (Docker's own list when empty) that overlaps nothing in `used`.
pub(crate) fn pick_subnet(pools: &[(Ipv4Addr, u8, u8)], used: &[Subnet]) -> Result<Subnet, Error> {
    let pools = if pools.is_empty() { DOCKER_POOLS } else { pools };
    for &(base, prefix, size) in pools {
        let pool = Subnet::new(base, prefix);
        let last = u32::from(pool.broadcast());
        let mut next = u32::from(pool.base());
        loop {
            let part = Subnet::new(Ipv4Addr::from(next), size);
            // Skip to behind the whole obstacle: a pool of a million small parts must not be walked part by part.
            let after = match used.iter().find(|used| used.overlaps(part)) {
                None => return Ok(part),
                Some(obstacle) => u32::from(obstacle.broadcast()).max(u32::from(part.broadcast())),
            };
            match after.checked_add(1) {
                Some(following) if following <= last => next = following,
                _ => break,
            }
        }
    }
    Err(Error::Other("all predefined address pools have been fully subnetted".to_owned()))
}

/// Refuses pools that no subnet can be cut from.
pub(crate) fn check_pools(pools: &[(Ipv4Addr, u8, u8)]) -> Result<(), Error> {
    for &(base, prefix, size) in pools {
        if prefix > 32 || size < prefix || size > 30 {
            let text =
                format!("default address pool base={base}/{prefix},size={size}: size must be between {prefix} and 30");
            return Err(Error::Other(text));
        }
    }
    Ok(())
}

/// The addresses of one network.
#[derive(Debug)]
pub(crate) struct Pool {
    network: String,
    subnet: Subnet,
    /// What is handed out when nobody asks for a certain address.
    range: Subnet,
    taken: BTreeSet<u32>,
}

impl Pool {
    /// `network` is named in errors; the gateway is taken from the start.
    pub(crate) fn new(network: &str, subnet: Subnet, range: Option<Subnet>, gateway: Ipv4Addr) -> Pool {
        let edges = [u32::from(subnet.base()), u32::from(subnet.broadcast()), u32::from(gateway)];
        Pool { network: network.to_owned(), subnet, range: range.unwrap_or(subnet), taken: edges.into() }
    }

    /// The lowest free address.
    pub(crate) fn take(&mut self) -> Result<Ipv4Addr, Error> {
        let (first, last) = (u32::from(self.range.base()), u32::from(self.range.broadcast()));
        let mut free = first;
        for &taken in self.taken.range(first..=last) {
            if taken != free {
                break;
            }
            free = match free.checked_add(1) {
                Some(next) => next,
                None => break,
            };
        }
        if free > last || self.taken.contains(&free) {
            let network = &self.network;
            let text = format!("no available IPv4 addresses on this network's address pools: {network}");
            return Err(Error::Other(text));
        }
        self.taken.insert(free);
        Ok(Ipv4Addr::from(free))
    }

    /// A certain address.
    pub(crate) fn take_this(&mut self, address: Ipv4Addr) -> Result<(), Error> {
        if !self.subnet.contains(address) {
            return Err(Error::Other(format!("no configured subnet contains IP address {address}")));
        }
        if !self.taken.insert(u32::from(address)) {
            return Err(Error::Other("Address already in use".to_owned()));
        }
        Ok(())
    }

    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        let (address, prefix) = text.split_once('/').unwrap();
        Subnet::new(address.parse().unwrap(), prefix.parse().unwrap())
    }

    #[test]
    fn the_first_pool_that_overlaps_no_route_is_picked() {
        let pick =
            |used: &[&str]| pick_subnet(&[], &used.iter().map(|s| subnet(s)).collect::<Vec<_>>()).unwrap().to_string();
        assert_eq!(pick(&[]), "172.17.0.0/16");
        assert_eq!(pick(&["172.17.0.0/16", "172.18.5.0/24"]), "172.19.0.0/16");
        assert_eq!(pick(&["172.16.0.0/12"]), "192.168.0.0/20");
        assert_eq!(pick(&["172.16.0.0/12", "192.168.3.7/32"]), "192.168.16.0/20");
        assert!(pick_subnet(&[], &[subnet("0.0.0.0/1"), subnet("128.0.0.0/1")]).is_err());
        let own = [(Ipv4Addr::new(10, 0, 0, 0), 8, 30)];
        assert_eq!(pick_subnet(&own, &[subnet("10.0.0.0/9")]).unwrap().to_string(), "10.128.0.0/30");
        assert!(check_pools(&[(Ipv4Addr::new(10, 0, 0, 0), 24, 16)]).is_err());
    }

    #[test]
    fn addresses_are_lowest_first_never_twice_and_come_back() {
        let net = subnet("10.1.0.0/29");
        let mut pool = Pool::new("bridge", net, None, Ipv4Addr::new(10, 1, 0, 1));
        let taken: Vec<u8> = (0..5).map(|_| pool.take().unwrap().octets()[3]).collect();
        assert_eq!(taken, [2, 3, 4, 5, 6]);
        assert!(pool.take().unwrap_err().to_string().contains("no available IPv4 addresses"));
        pool.give_back(Ipv4Addr::new(10, 1, 0, 4));
        assert_eq!(pool.take().unwrap(), Ipv4Addr::new(10, 1, 0, 4));
        assert!(pool.take_this(Ipv4Addr::new(10, 1, 0, 4)).is_err());
        assert!(pool.take_this(Ipv4Addr::new(10, 2, 0, 4)).is_err());
    }

    #[test]
    fn a_range_limits_what_is_handed_out_and_the_top_of_the_address_space_does_not_overflow() {
        let range = Some(subnet("10.1.0.128/30"));
        let mut pool = Pool::new("bridge", subnet("10.1.0.0/24"), range, Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(pool.take().unwrap(), Ipv4Addr::new(10, 1, 0, 128));
        let mut top = Pool::new("bridge", subnet("255.255.255.252/30"), None, Ipv4Addr::new(255, 255, 255, 253));
        assert_eq!(top.take().unwrap(), Ipv4Addr::new(255, 255, 255, 254));
        assert!(top.take().is_err());
    }
}
