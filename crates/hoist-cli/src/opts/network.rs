//! `--network` in its short and long form, with the older flags that describe the first network.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::csv;
use crate::flags::{Parsed, check::quote};

#[derive(Default)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    driver_opts: Map<String, Value>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    mac: String,
    priority: i64,
}

pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

pub(crate) fn check_ip_in_list(text: &str) -> Result<(), String> {
    let bad = |_| format!("IP address is not correctly formatted: {text}");
    text.trim().parse::<IpAddr>().map(drop).map_err(bad)
}

/// `--add-host name:ip` or `name=ip`; `host-gateway` stands for an address the engine knows.
pub(crate) fn check_extra_host(text: &str) -> Result<(), String> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or(("", ""));
    if name.is_empty() {
        return Err(format!("bad format for add-host: {}", quote(text)));
    }
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if address == "host-gateway" || bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid IP address in add-host: {}", quote(address)))
}

/// The form the API takes: `name:ip`, addresses without brackets.
pub(crate) fn extra_host(text: &str) -> String {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    format!("{name}:{bare}")
}

pub(crate) fn check_dns_search(text: &str) -> Result<(), String> {
    let name = text.trim_matches(' ');
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let plain = name.strip_suffix('.').unwrap_or(name);
    let has_letter = name.bytes().any(|byte| byte.is_ascii_alphabetic());
    if name == "." || (has_letter && plain.len() < 255 && plain.split('.').all(label)) {
        return Ok(());
    }
    Err(format!("{text} is not a valid domain"))
}

pub(crate) fn check_link(text: &str) -> Result<(), String> {
    match text.matches(':').count() {
        _ if text.is_empty() => Err("empty string specified for links".to_owned()),
        0 | 1 => Ok(()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

fn parse(text: &str) -> Result<Attachment, String> {
    let mut network = Attachment::default();
    if !is_long(text) {
        network.target = text.to_owned();
        return Ok(network);
    }
    for field in csv::fields(text)? {
        let lower = field.to_lowercase();
        let Some((key, value)) = lower.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(format!("invalid field {field}"));
        };
        let (key, value) = (key.trim(), value.trim());
        let address = || {
            let bad = |_| format!("ParseAddr({}): unable to parse IP", quote(value));
            value.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(bad)
        };
        match key {
            "name" => network.target = value.to_owned(),
            "alias" => network.aliases.push(value.to_owned()),
            "ip" => network.ipv4 = address()?,
            "ip6" => network.ipv6 = address()?,
            "mac-address" => network.mac = value.to_owned(),
            "link-local-ip" => network.link_local.push(address()?),
            "driver-opt" => {
                let Some((name, value)) = value.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                    return Err("invalid key value pair format in driver options".to_owned());
                };
                network.driver_opts.insert(name.trim().to_owned(), value.trim().into());
            }
            "gw-priority" => {
                network.priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if network.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(network)
}

/// Is there a `word=word` in it? Then it is the long form.
fn is_long(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut pairs = text.match_indices('=');
    pairs.any(|(at, _)| text[..at].ends_with(is_word) && text[at + 1..].starts_with(is_word))
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none" | "") && !name.starts_with("container:")
}

/// The network mode and the endpoints of a create request.
pub(crate) fn settings(args: &Parsed) -> Result<(String, Map<String, Value>), String> {
    let mut networks = args.all("network").into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let mode = networks.first().map_or_else(|| "default".to_owned(), |first| first.target.clone());
    let is_default = networks.is_empty();
    if is_default {
        networks.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    let alone = networks.len() == 1;
    let user_defined = networks.iter().filter(|network| is_user_defined(&network.target)).count();
    let all = networks.len();
    let mut endpoints = Map::new();
    for (index, mut network) in networks.into_iter().enumerate() {
        if index == 0 {
            add_flags(&mut network, args)?;
        }
        let endpoint = endpoint(&network)?;
        if endpoints.contains_key(&network.target) {
            return Err(format!("network {} is specified multiple times", quote(&network.target)));
        }
        // a single network without options is told by the mode alone
        if !(alone && !is_default && endpoint == json!({})) {
            endpoints.insert(network.target, endpoint);
        }
    }
    if user_defined > 0 && user_defined < all {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()
        );
    }
    if is_default && endpoints.values().all(|endpoint| *endpoint == json!({})) {
        endpoints.clear();
    }
    Ok((mode, endpoints))
}

fn add_flags(network: &mut Attachment, args: &Parsed) -> Result<(), String> {
    let conflict =
        |old: &str, new: &str| Err(format!("conflicting options: cannot specify both --{old} and per-network {new}"));
    if !network.aliases.is_empty() && args.has("network-alias") {
        return conflict("network-alias", "alias");
    }
    if !network.links.is_empty() && args.has("link") {
        return conflict("link", "links");
    }
    if !network.ipv4.is_empty() && args.has("ip") {
        return conflict("ip", "IPv4 address");
    }
    if !network.ipv6.is_empty() && args.has("ip6") {
        return conflict("ip6", "IPv6 address");
    }
    if !network.mac.is_empty() && args.has("mac-address") {
        return conflict("mac-address", "MAC address");
    }
    if !network.link_local.is_empty() && args.has("link-local-ip") {
        return conflict("link-local-ip", "link-local IP addresses");
    }
    network.aliases.extend(args.owned("network-alias"));
    if is_user_defined(&network.target) {
        network.links.extend(args.owned("link"));
    }
    if let Some(ip) = args.get("ip") {
        network.ipv4 = ip.trim().to_owned();
    }
    if let Some(ip) = args.get("ip6") {
        network.ipv6 = ip.trim().to_owned();
    }
    if let Some(mac) = args.get("mac-address") {
        network.mac = mac.to_owned();
    }
    network.link_local.extend(args.owned("link-local-ip"));
    Ok(())
}

fn endpoint(network: &Attachment) -> Result<Value, String> {
    if network.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&network.target) {
        if !network.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
        if !network.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    let mut endpoint = json!({});
    if !network.aliases.is_empty() {
        endpoint["Aliases"] = json!(network.aliases);
    }
    if !network.links.is_empty() {
        endpoint["Links"] = json!(network.links);
    }
    if !network.driver_opts.is_empty() {
        endpoint["DriverOpts"] = Value::Object(network.driver_opts.clone());
    }
    if network.priority != 0 {
        endpoint["GwPriority"] = network.priority.into();
    }
    let mut ipam = Map::new();
    for (key, address) in [("IPv4Address", &network.ipv4), ("IPv6Address", &network.ipv6)] {
        if !address.is_empty() {
            ipam.insert(key.to_owned(), address.as_str().into());
        }
    }
    if !network.link_local.is_empty() {
        ipam.insert("LinkLocalIPs".to_owned(), json!(network.link_local));
    }
    if !ipam.is_empty() {
        endpoint["IPAMConfig"] = Value::Object(ipam);
    }
    if !network.mac.is_empty() {
        endpoint["MacAddress"] = check_mac(&network.mac)?.into();
    }
    Ok(endpoint)
}

/// A MAC address of six bytes, separated by colons or hyphens.
fn check_mac(text: &str) -> Result<String, String> {
    let trimmed = text.trim().replace('-', ":");
    let parts: Vec<&str> = trimmed.split(':').collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    match matches!(parts.len(), 6 | 8) && parts.iter().all(is_byte) {
        true => Ok(trimmed.to_lowercase()),
        false => Err(format!("{text} is not a valid mac address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Result<(String, String), String> {
        let mut args = Parsed::default();
        for (flag, value) in pairs {
            args.set(flag, *value);
        }
        settings(&args).map(|(mode, endpoints)| (mode, Value::Object(endpoints).to_string()))
    }

    #[test]
    fn networks_become_a_mode_and_endpoints() {
        let ok = |mode: &str, endpoints: &str| Ok((mode.to_owned(), endpoints.to_owned()));
        assert_eq!(of(&[]), ok("default", "{}"));
        assert_eq!(of(&[("network", "host")]), ok("host", "{}"));
        assert_eq!(
            of(&[("network", "net"), ("ip", "10.0.0.9")]),
            ok("net", r#"{"net":{"IPAMConfig":{"IPv4Address":"10.0.0.9"}}}"#)
        );
        assert_eq!(
            of(&[("network", "name=a,alias=x,driver-opt=k=v"), ("network", "b")]),
            ok("a", r#"{"a":{"Aliases":["x"],"DriverOpts":{"k":"v"}},"b":{}}"#)
        );
        assert_eq!(
            of(&[("mac-address", "92-D0-c6-0a-29-33")]),
            ok("default", r#"{"default":{"MacAddress":"92:d0:c6:0a:29:33"}}"#)
        );
    }

    #[test]
    fn conflicts_and_wrong_networks_are_refused() {
        assert!(
            of(&[("network", "host"), ("network-alias", "x")]).unwrap_err().contains("only supported for user-defined")
        );
        assert!(of(&[("network", "a"), ("network", "a")]).unwrap_err().contains("multiple times"));
        assert!(of(&[("network", "a"), ("network", "host")]).unwrap_err().contains("conflicting options"));
        assert_eq!(check("name=a,foo=b").unwrap_err(), "invalid field key foo");
        assert!(of(&[("mac-address", "zz")]).unwrap_err().contains("not a valid mac address"));
    }
}
