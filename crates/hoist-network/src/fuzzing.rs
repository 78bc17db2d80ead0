//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

use crate::element::Element;
use crate::{conntrack, link, nft, resolver, watch};

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[("netlink_attributes", netlink_attributes), ("resolver", resolver)];

/// Answers and notifications of nf_tables and conntrack, and routes' and links' attributes.
pub fn netlink_attributes(bytes: &[u8]) {
    let mut elements: Vec<Element> = Vec::new();
    nft::parse_elements(bytes, &mut elements);
    for element in elements {
        let (key, data) = (element.key(), element.data());
        let again = Element::parse(&key, &data).map(|element| (element.key(), element.data()));
        assert_eq!(again, Some((key, data)), "an element that was read is written otherwise");
    }
    conntrack::read(bytes);
    let _ = watch::is_foreign(bytes, 7);
    let _ = str::from_utf8(bytes).ok().and_then(link::parse_mac).map(link::format_mac);
}

/// The host's resolv.conf. What comes out has a server that a container can reach.
pub fn resolver(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (host, rest) = text.split_once('\0').unwrap_or((&text, ""));
    let make = |text: &str| {
        let host = resolver::HostResolver { path: "/etc/resolv.conf", text: text.to_owned() };
        resolver::resolv_conf(&host, false, resolver::ResolverWishes::default())
    };
    let directives =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    let made = make(host);
    assert!(resolver::nameservers(&made).next().is_some(), "no server in {made:?}");
    assert_eq!(directives(&make(&made)), directives(&made), "not what it is made from itself");
    let _ = resolver::hosts_file(rest, "", "172.17.0.2".parse().ok(), &[]);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
