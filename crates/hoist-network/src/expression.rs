//! nf_tables expressions, as the kernel wants them in a rule (the numbers of linux/netfilter/nf_tables.h). A rule is
//! written left to right as nft(8) would list it. Pure bytes.

use crate::message::Attributes;
use crate::nft::{EXPR_DATA, EXPR_NAME};
use crate::transaction::NFPROTO_IPV4;

const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// 16-byte register 1, which is also the 4-byte registers 8 to 11.
const REG_1: u32 = 1;
const REG_VERDICT: u32 = 0;
const REG32_FIRST: u32 = 8;

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const IPV4_SOURCE_AT: u32 = 12;
const IPV4_DESTINATION_AT: u32 = 16;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_DADDR: u32 = 2;
const RTN_LOCAL: u32 = 2;
const NAT_DNAT: u32 = 1;
const DEVICE_NAME_BYTES: usize = 16;

/// `ct state established,related`
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `ct status dnat`
const IPS_DST_NAT: u32 = 1 << 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Accept,
}

impl Verdict {
    pub(crate) fn code(self) -> u32 {
        match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal = 0,
    NotEqual = 1,
}

/// Writes the expressions of one rule.
#[derive(Debug)]
pub(crate) struct Rule<'a, 'b>(pub(crate) &'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn add(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.0.nest(LIST_ELEM, |a| {
            a.text(EXPR_NAME, name);
            a.nest(EXPR_DATA, data);
        });
        self
    }

    fn compare(&mut self, how: Compare, value: &[u8]) -> &mut Self {
        self.add("cmp", |a| {
            a.be32(1, REG_1);
            a.be32(2, how as u32);
            a.nest(3, |a| a.put(DATA_VALUE, value));
        })
    }

    fn meta(&mut self, key: u32, register: u32) -> &mut Self {
        self.add("meta", |a| {
            a.be32(1, register);
            a.be32(2, key);
        })
    }

    fn payload(&mut self, register: u32, base: u32, offset: u32, length: u32) -> &mut Self {
        self.add("payload", |a| {
            for (kind, value) in [(1, register), (2, base), (3, offset), (4, length)] {
                a.be32(kind, value);
            }
        })
    }

    /// Register 1 AND `mask`, in host or network order as the bytes say.
    fn mask(&mut self, mask: [u8; 4]) -> &mut Self {
        self.add("bitwise", |a| {
            for (kind, value) in [(1, REG_1), (2, REG_1), (3, 4)] {
                a.be32(kind, value);
            }
            a.nest(4, |a| a.put(DATA_VALUE, &mask));
            a.nest(5, |a| a.put(DATA_VALUE, &[0; 4]));
        })
    }

    fn device(&mut self, key: u32, how: Compare, name: &str) -> &mut Self {
        let mut padded = [0; DEVICE_NAME_BYTES];
        padded.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        self.meta(key, REG_1).compare(how, &padded)
    }

    /// `iifname NAME`
    pub(crate) fn iifname(&mut self, how: Compare, name: &str) -> &mut Self {
        self.device(META_IIFNAME, how, name)
    }

    /// `oifname NAME`
    pub(crate) fn oifname(&mut self, how: Compare, name: &str) -> &mut Self {
        self.device(META_OIFNAME, how, name)
    }

    /// `meta nfproto ipv4`: in an `inet` table the payload of IPv4 may be looked at only after this.
    pub(crate) fn is_ipv4(&mut self) -> &mut Self {
        self.meta(META_NFPROTO, REG_1).compare(Compare::Equal, &[NFPROTO_IPV4])
    }

    /// `ip saddr BASE/PREFIX`
    pub(crate) fn saddr_in(&mut self, subnet: crate::ipam::Subnet) -> &mut Self {
        self.payload(REG_1, PAYLOAD_NETWORK, IPV4_SOURCE_AT, 4).network(Compare::Equal, subnet)
    }

    /// `ip daddr != 127.0.0.0/8`
    pub(crate) fn daddr_not_loopback(&mut self) -> &mut Self {
        self.daddr_loopback(Compare::NotEqual)
    }

    /// `ip daddr 127.0.0.0/8`, or its opposite
    pub(crate) fn daddr_loopback(&mut self, how: Compare) -> &mut Self {
        self.payload(REG_1, PAYLOAD_NETWORK, IPV4_DESTINATION_AT, 4).network(how, loopback())
    }

    /// `ip saddr 127.0.0.0/8`
    pub(crate) fn saddr_loopback(&mut self) -> &mut Self {
        self.saddr_in(loopback())
    }

    fn network(&mut self, how: Compare, subnet: crate::ipam::Subnet) -> &mut Self {
        self.mask(subnet.mask().octets()).compare(how, &subnet.base().octets())
    }

    /// `fib daddr type local`
    pub(crate) fn fib_daddr_local(&mut self) -> &mut Self {
        self.add("fib", |a| {
            for (kind, value) in [(1, REG_1), (2, FIB_RESULT_ADDRTYPE), (3, FIB_DADDR)] {
                a.be32(kind, value);
            }
        })
        .compare(Compare::Equal, &RTN_LOCAL.to_ne_bytes())
    }

    /// `ct state established,related`
    pub(crate) fn is_answer(&mut self) -> &mut Self {
        self.conntrack(CT_STATE, ESTABLISHED_OR_RELATED)
    }

    /// `ct status dnat`
    pub(crate) fn is_published(&mut self) -> &mut Self {
        self.conntrack(CT_STATUS, IPS_DST_NAT)
    }

    fn conntrack(&mut self, key: u32, any_of: u32) -> &mut Self {
        self.add("ct", |a| {
            a.be32(1, REG_1);
            a.be32(2, key);
        })
        .mask(any_of.to_ne_bytes())
        .compare(Compare::NotEqual, &[0; 4])
    }

    /// `dnat ip to ip daddr . meta l4proto . th dport map @NAME`
    pub(crate) fn dnat_by_address(&mut self, map: &str) -> &mut Self {
        self.payload(REG32_FIRST, PAYLOAD_NETWORK, IPV4_DESTINATION_AT, 4)
            .meta(META_L4PROTO, REG32_FIRST + 1)
            .payload(REG32_FIRST + 2, PAYLOAD_TRANSPORT, 2, 2)
            .dnat_map(map)
    }

    /// `dnat ip to meta l4proto . th dport map @NAME`
    pub(crate) fn dnat_by_port(&mut self, map: &str) -> &mut Self {
        self.meta(META_L4PROTO, REG32_FIRST).payload(REG32_FIRST + 1, PAYLOAD_TRANSPORT, 2, 2).dnat_map(map)
    }

    fn dnat_map(&mut self, map: &str) -> &mut Self {
        self.add("lookup", |a| {
            a.text(1, map);
            a.be32(2, REG_1);
            a.be32(3, REG_1);
        })
        .add("nat", |a| {
            for (kind, value) in [(1, NAT_DNAT), (2, u32::from(NFPROTO_IPV4)), (3, REG_1), (5, REG32_FIRST + 1)] {
                a.be32(kind, value);
            }
        })
    }

    pub(crate) fn masquerade(&mut self) -> &mut Self {
        self.add("masq", |_| {})
    }

    /// `counter`, which iptables(8) expects in each rule that it lists.
    pub(crate) fn counter(&mut self) -> &mut Self {
        self.add("counter", |_| {})
    }

    pub(crate) fn verdict(&mut self, verdict: Verdict) -> &mut Self {
        self.add("immediate", |a| {
            a.be32(1, REG_VERDICT);
            a.nest(2, |a| a.nest(DATA_VERDICT, |a| a.be32(VERDICT_CODE, verdict.code())));
        })
    }
}

fn loopback() -> crate::ipam::Subnet {
    crate::ipam::Subnet::new(std::net::Ipv4Addr::LOCALHOST, 8)
}
