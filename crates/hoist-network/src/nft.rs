//! Our own nf_tables table: `inet hoist-<bridge>`, one for each engine, built whole in one transaction. Publishing a port
//! is one element in a map. The table as `nft list` would show it:
//!
//! ```text
//! table inet hoist-B {
//!   map by_address { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!   map by_port    { type inet_proto . inet_service : ipv4_addr . inet_service }
//!   chain prerouting { type nat hook prerouting priority dstnat
//!     meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @by_address
//!     meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @by_port }
//!   chain output { type nat hook output priority dstnat
//!     the same, but with ip daddr != 127.0.0.0/8 }
//!   chain postrouting { type nat hook postrouting priority srcnat
//!     oifname != B ip saddr SUBNET masquerade
//!     oifname B ip saddr SUBNET ct status dnat masquerade }
//!   chain forward { type filter hook forward priority filter
//!     oifname != B accept
//!     ct state established,related accept
//!     ct status dnat accept
//!     iifname B accept              (unless containers are kept apart)
//!     drop }
//! }
//! ```
//! Without a userland proxy (`--userland-proxy=false`) the output chain takes loopback addresses too, postrouting has
//! `oifname B ip saddr 127.0.0.0/8 masquerade`, and a chain `loopback` (prerouting, raw) drops what comes in by the bridge
//! from or for loopback addresses.
//!
//! The second masquerade is for containers that reach a published port of a sibling (or their own) through an address of
//! the host: the answer must come back through the host. What is not published cannot be reached from outside, not even
//! by those who route to the container's address.

use std::io;

use hoist_sys::netlink::{Protocol as NetlinkProtocol, Socket};
use rustix::io::Errno;

use crate::Error;
use crate::element::Element;
use crate::expression::{Compare, Rule, Verdict};
use crate::ipam::Subnet;
use crate::message::{Attributes, Batch, Parsed, flag, split};
use crate::transaction::{NFGENMSG_BYTES, NFPROTO_INET, SUBSYSTEM, Transaction, header};

const NEWTABLE: u16 = SUBSYSTEM << 8;
const GETTABLE: u16 = NEWTABLE + 1;
const DELTABLE: u16 = NEWTABLE + 2;
const NEWCHAIN: u16 = NEWTABLE + 3;
pub(crate) const GETCHAIN: u16 = NEWTABLE + 4;
pub(crate) const NEWRULE: u16 = NEWTABLE + 6;
pub(crate) const GETRULE: u16 = NEWTABLE + 7;
const NEWSET: u16 = NEWTABLE + 9;
const NEWSETELEM: u16 = NEWTABLE + 12;
const GETSETELEM: u16 = NEWTABLE + 13;
const DELSETELEM: u16 = NEWTABLE + 14;

// Attributes, each list with numbers of its own (NFTA_* of linux/netfilter/nf_tables.h).
const TABLE_NAME: u16 = 1;
pub(crate) const CHAIN_TABLE: u16 = 1;
pub(crate) const CHAIN_NAME: u16 = 3;
pub(crate) const CHAIN_HOOK: u16 = 4;
pub(crate) const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
pub(crate) const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
pub(crate) const RULE_TABLE: u16 = 1;
pub(crate) const RULE_CHAIN: u16 = 2;
pub(crate) const RULE_EXPRESSIONS: u16 = 4;
pub(crate) const RULE_USERDATA: u16 = 7;
pub(crate) const EXPR_NAME: u16 = 1;
pub(crate) const EXPR_DATA: u16 = 2;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LEN: u16 = 7;
const SET_ID: u16 = 10;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const LIST_ELEM: u16 = 1;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
/// A transaction is cut into messages of at most this many elements: an attribute's length has 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 256;

const NAME_PREFIX: &str = "hoist-";

const HOOK_PREROUTING: u32 = 0;
pub(crate) const HOOK_FORWARD: u32 = 2;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SRCNAT: i32 = 100;

const SET_MAP: u32 = 8;
// nft(8)'s numbers of data types, six bits each in a concatenation: how it shows the elements.
const TYPE_IPV4: u32 = 7;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_SERVICE: u32 = 13;

/// The rules' parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) bridge: String,
    pub(crate) subnet: Subnet,
    /// Whether containers may talk to each other.
    pub(crate) icc: bool,
    /// Whether published ports are to be reached on loopback by NAT, for want of a proxy.
    pub(crate) loopback: bool,
}

impl Ruleset {
    /// How many rules `Table::replace` makes.
    fn count(&self) -> usize {
        10 + usize::from(self.icc) + 3 * usize::from(self.loopback)
    }
}

/// The table of one engine.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    socket: Socket,
}

impl Table {
    pub(crate) fn open(bridge: &str) -> Result<Table, Error> {
        let socket = Socket::open(NetlinkProtocol::Netfilter)
            .map_err(|error| Error::Other(format!("open a netlink socket for nf_tables: {error}")))?;
        Ok(Table { name: format!("{NAME_PREFIX}{bridge}"), socket })
    }

    /// Makes the table exactly this, in one transaction: nobody ever sees it half built.
    pub(crate) fn replace(&self, rules: &Ruleset, elements: &[Element]) -> Result<(), Error> {
        let mut transaction = Transaction::new();
        let name = &self.name;
        // Deleting needs a table that exists.
        transaction.add(NEWTABLE, flag::CREATE, |a| a.text(TABLE_NAME, name));
        transaction.add(DELTABLE, 0, |a| a.text(TABLE_NAME, name));
        transaction.add(NEWTABLE, flag::CREATE, |a| a.text(TABLE_NAME, name));
        self.add_maps(&mut transaction);
        self.add_chains(&mut transaction, rules);
        self.add_elements(&mut transaction, elements);
        self.send(transaction).map_err(|error| Error::Other(format!("nf_tables table {name}: {error}")))
    }

    /// Adds elements; those that are there already are fine, unless they lead elsewhere.
    pub(crate) fn publish(&self, elements: &[Element]) -> io::Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        self.add_elements(&mut transaction, elements);
        self.send(transaction)
    }

    /// Removes elements; those that are gone already are fine.
    pub(crate) fn withdraw(&self, elements: &[Element]) -> io::Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        match self.remove_elements(elements) {
            // One that is missing undoes the whole transaction.
            Err(error) if is(&error, Errno::NOENT) => {
                elements.iter().try_for_each(|element| match self.remove_elements(std::slice::from_ref(element)) {
                    Err(error) if !is(&error, Errno::NOENT) => Err(error),
                    _ => Ok(()),
                })
            }
            other => other,
        }
    }

    /// All elements; none if the table is not there.
    pub(crate) fn elements(&self) -> io::Result<Vec<Element>> {
        let mut elements = Vec::new();
        for map in ["by_address", "by_port"] {
            let mut request = Batch::new();
            request.add(GETSETELEM, flag::DUMP, &header(NFPROTO_INET), |a| {
                a.text(ELEMENTS_TABLE, &self.name);
                a.text(ELEMENTS_SET, map);
            });
            match self.socket.request_dump(request.as_bytes()) {
                Ok(answers) => answers.iter().for_each(|answer| parse_elements(answer, &mut elements)),
                Err(error) if is(&error, Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(elements)
    }

    /// Whether the table is there with all its rules: others may have flushed them.
    pub(crate) fn is_whole(&self, rules: &Ruleset) -> io::Result<bool> {
        let mut request = Batch::new();
        request.add(GETRULE, flag::DUMP, &header(NFPROTO_INET), |a| a.text(RULE_TABLE, &self.name));
        Ok(self.socket.request_dump(request.as_bytes())?.len() == rules.count())
    }

    /// Removes the tables of engines that are gone with their bridges: their published ports would lead nowhere.
    pub(crate) fn remove_orphans(&self, is_device: impl Fn(&str) -> bool) -> Result<(), Error> {
        let mut request = Batch::new();
        request.add(GETTABLE, flag::DUMP, &header(NFPROTO_INET), |_| {});
        let answers = self
            .socket
            .request_dump(request.as_bytes())
            .map_err(|error| Error::Other(format!("list the tables of nf_tables: {error}")))?;
        for answer in &answers {
            let name = split(answer, NFGENMSG_BYTES).and_then(|(_, attributes)| attributes.text(TABLE_NAME));
            let Some(name) = name else { continue };
            if name.strip_prefix(NAME_PREFIX).is_some_and(|bridge| !is_device(bridge)) {
                self.remove_table(name)?;
            }
        }
        Ok(())
    }

    /// The socket, for work in the tables of others.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Removes the table; one that is gone already is fine.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        self.remove_table(&self.name)
    }

    fn remove_table(&self, name: &str) -> Result<(), Error> {
        let mut transaction = Transaction::new();
        transaction.add(NEWTABLE, flag::CREATE, |a| a.text(TABLE_NAME, name));
        transaction.add(DELTABLE, 0, |a| a.text(TABLE_NAME, name));
        self.send(transaction).map_err(|error| Error::Other(format!("remove nf_tables table {name}: {error}")))
    }

    fn add_maps(&self, transaction: &mut Transaction) {
        let target = (TYPE_IPV4 << 6) | TYPE_SERVICE;
        let by_port = (TYPE_PROTOCOL << 6) | TYPE_SERVICE;
        let by_address = (TYPE_IPV4 << 12) | by_port;
        for (id, map, key_type, key_bytes) in [(1, "by_address", by_address, 12), (2, "by_port", by_port, 8)] {
            transaction.add(NEWSET, flag::CREATE, |a| {
                a.text(SET_TABLE, &self.name);
                a.text(SET_NAME, map);
                a.be32(SET_FLAGS, SET_MAP);
                a.be32(SET_KEY_TYPE, key_type);
                a.be32(SET_KEY_LEN, key_bytes);
                a.be32(SET_DATA_TYPE, target);
                a.be32(SET_DATA_LEN, 8);
                a.be32(SET_ID, id);
            });
        }
    }

    fn add_chains(&self, transaction: &mut Transaction, rules: &Ruleset) {
        let (bridge, subnet) = (rules.bridge.as_str(), rules.subnet);
        self.add_chain(transaction, "prerouting", "nat", (HOOK_PREROUTING, PRIORITY_DSTNAT));
        self.add_rule(transaction, "prerouting", |r| _ = r.is_ipv4().dnat_by_address("by_address"));
        self.add_rule(transaction, "prerouting", |r| _ = r.is_ipv4().fib_daddr_local().dnat_by_port("by_port"));
        self.add_chain(transaction, "output", "nat", (HOOK_OUTPUT, PRIORITY_DSTNAT));
        self.add_rule(transaction, "output", |r| _ = r.is_ipv4().dnat_by_address("by_address"));
        self.add_rule(transaction, "output", |r| {
            let r = r.is_ipv4();
            let r = if rules.loopback { r } else { r.daddr_not_loopback() };
            r.fib_daddr_local().dnat_by_port("by_port");
        });
        self.add_chain(transaction, "postrouting", "nat", (HOOK_POSTROUTING, PRIORITY_SRCNAT));
        self.add_rule(transaction, "postrouting", |r| {
            r.oifname(Compare::NotEqual, bridge).is_ipv4().saddr_in(subnet).masquerade();
        });
        self.add_rule(transaction, "postrouting", |r| {
            r.oifname(Compare::Equal, bridge).is_ipv4().saddr_in(subnet).is_published().masquerade();
        });
        if rules.loopback {
            self.add_loopback(transaction, bridge);
        }
        self.add_chain(transaction, "forward", "filter", (HOOK_FORWARD, PRIORITY_FILTER));
        let accept = Verdict::Accept;
        self.add_rule(transaction, "forward", |r| _ = r.oifname(Compare::NotEqual, bridge).verdict(accept));
        self.add_rule(transaction, "forward", |r| _ = r.is_answer().verdict(accept));
        self.add_rule(transaction, "forward", |r| _ = r.is_published().verdict(accept));
        if rules.icc {
            self.add_rule(transaction, "forward", |r| _ = r.iifname(Compare::Equal, bridge).verdict(accept));
        }
        self.add_rule(transaction, "forward", |r| _ = r.verdict(Verdict::Drop));
    }

    /// Answers to the host's own loopback connections must come back through the host; and since the bridge routes
    /// loopback addresses then, containers must not reach the host's own servers on them.
    fn add_loopback(&self, transaction: &mut Transaction, bridge: &str) {
        self.add_rule(transaction, "postrouting", |r| {
            r.oifname(Compare::Equal, bridge).is_ipv4().saddr_loopback().masquerade();
        });
        self.add_chain(transaction, "loopback", "filter", (HOOK_PREROUTING, PRIORITY_RAW));
        self.add_rule(transaction, "loopback", |r| {
            r.iifname(Compare::Equal, bridge).is_ipv4().daddr_loopback(Compare::Equal).verdict(Verdict::Drop);
        });
        self.add_rule(transaction, "loopback", |r| {
            r.iifname(Compare::Equal, bridge).is_ipv4().saddr_loopback().verdict(Verdict::Drop);
        });
    }

    fn add_chain(&self, transaction: &mut Transaction, name: &str, kind: &str, (hook, priority): (u32, i32)) {
        transaction.add(NEWCHAIN, flag::CREATE, |a| {
            a.text(CHAIN_TABLE, &self.name);
            a.text(CHAIN_NAME, name);
            a.nest(CHAIN_HOOK, |a| {
                a.be32(HOOK_NUMBER, hook);
                a.put(HOOK_PRIORITY, &priority.to_be_bytes());
            });
            a.be32(CHAIN_POLICY, Verdict::Accept.code());
            a.text(CHAIN_TYPE, kind);
        });
    }

    fn add_rule(&self, transaction: &mut Transaction, chain: &str, write: impl FnOnce(&mut Rule<'_, '_>)) {
        transaction.add(NEWRULE, flag::CREATE | flag::APPEND, |a| {
            a.text(RULE_TABLE, &self.name);
            a.text(RULE_CHAIN, chain);
            a.nest(RULE_EXPRESSIONS, |a| write(&mut Rule(a)));
        });
    }

    fn add_elements(&self, transaction: &mut Transaction, elements: &[Element]) {
        self.change_elements(transaction, NEWSETELEM, flag::CREATE, elements);
    }

    fn remove_elements(&self, elements: &[Element]) -> io::Result<()> {
        let mut transaction = Transaction::new();
        self.change_elements(&mut transaction, DELSETELEM, 0, elements);
        self.send(transaction)
    }

    fn change_elements(&self, transaction: &mut Transaction, kind: u16, flags: u16, elements: &[Element]) {
        for map in ["by_address", "by_port"] {
            let of_map: Vec<&Element> = elements.iter().filter(|element| element.map() == map).collect();
            for some in of_map.chunks(ELEMENTS_PER_MESSAGE) {
                transaction.add(kind, flags, |a| {
                    a.text(ELEMENTS_TABLE, &self.name);
                    a.text(ELEMENTS_SET, map);
                    a.nest(ELEMENTS_LIST, |a| {
                        some.iter().for_each(|element| add_element(a, element, kind == NEWSETELEM))
                    });
                });
            }
        }
    }

    fn send(&self, transaction: Transaction) -> io::Result<()> {
        self.socket.send_batch(&transaction.finish())
    }
}

fn add_element(attributes: &mut Attributes<'_>, element: &Element, with_data: bool) {
    attributes.nest(LIST_ELEM, |a| {
        a.nest(ELEM_KEY, |a| a.put(DATA_VALUE, &element.key()));
        if with_data {
            a.nest(ELEM_DATA, |a| a.put(DATA_VALUE, &element.data()));
        }
    });
}

pub(crate) fn parse_elements(answer: &[u8], elements: &mut Vec<Element>) {
    let list = split(answer, NFGENMSG_BYTES).and_then(|(_, attributes)| attributes.nested(ELEMENTS_LIST));
    for (_, element) in list.into_iter().flatten() {
        let element = Parsed::new(element);
        let value = |kind| element.nested(kind).and_then(|nested: Parsed<'_>| nested.get(DATA_VALUE));
        elements.extend(value(ELEM_KEY).zip(value(ELEM_DATA)).and_then(|(key, data)| Element::parse(key, data)));
    }
}

/// Whether a notification tells of tables, chains or rules, rather than of elements.
pub(crate) fn is_structural(kind: u16) -> bool {
    (NEWTABLE..NEWSET).contains(&kind)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
