//! `--publish` and `--expose`: `[[ip:][host]:]container[/proto]` with ranges, and the `name=value,…` form.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::flags::check::quote;

/// Exposed ports and port bindings, as the API takes them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ports {
    pub(crate) exposed: Map<String, Value>,
    pub(crate) bindings: Map<String, Value>,
}

pub(crate) fn parse(publish: &[&str], expose: &[&str]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for spec in publish {
        let standard = if spec.contains('=') { from_pairs(spec)? } else { (*spec).to_owned() };
        add_published(&mut ports, &standard)?;
    }
    for spec in expose {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (range, proto) = split_proto(spec);
        let bad = |why: String| format!("invalid range format for --expose: {range}, error: {why}");
        let (first, last) = parse_range(range).map_err(bad)?;
        let proto = check_proto(proto).map_err(bad)?;
        for port in first..=last {
            ports.exposed.insert(format!("{port}/{proto}"), json!({}));
        }
    }
    Ok(ports)
}

fn from_pairs(spec: &str) -> Result<String, String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for pair in spec.split(',') {
        match pair.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some((name, _)) if !name.is_empty() => {}
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{pair}')")),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn split_proto(spec: &str) -> (&str, &str) {
    match spec.split_once('/') {
        Some((ports, "")) | Some((ports, "tcp")) => (ports, "tcp"),
        Some((ports, proto)) => (ports, proto),
        None => (spec, "tcp"),
    }
}

fn check_proto(proto: &str) -> Result<String, String> {
    let lower = proto.to_lowercase();
    match lower.as_str() {
        "tcp" | "udp" | "sctp" => Ok(lower),
        _ => Err(format!("Invalid proto: {proto}")),
    }
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("Empty string specified for ports.".to_owned());
    }
    let number = |text: &str| {
        let bad = |why: &str| format!("strconv.ParseUint: parsing {}: {why}", quote(text));
        match text.parse::<u64>() {
            _ if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(bad("invalid syntax")),
            Ok(number) => u16::try_from(number).map_err(|_| bad("value out of range")),
            Err(_) => Err(bad("value out of range")),
        }
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            match first <= last {
                true => Ok((first, last)),
                false => Err(format!("Invalid range specified for the Port: {text}")),
            }
        }
    }
}

/// Address, host ports and container ports of `[ip:][host:]container`.
fn split_parts(spec: &str) -> (&str, &str, &str) {
    let mut parts = spec.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    (parts.next().unwrap_or_default(), host, container)
}

fn add_published(ports: &mut Ports, spec: &str) -> Result<(), String> {
    let (ip, host, container) = split_parts(spec);
    let (container, proto) = split_proto(container);
    let ip = check_ip(ip)?;
    if container.is_empty() {
        return Err(format!("No port specified: {spec}<empty>"));
    }
    let (first, last) = parse_range(container).map_err(|_| format!("Invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(parse_range(host).map_err(|_| format!("Invalid hostPort: {host}"))?),
    };
    if let Some((host_first, host_last)) = host_range
        && last - first != host_last - host_first
        // a range of host ports for one container port: the engine takes a free one
        && last != first
    {
        return Err(format!("Invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let proto = check_proto(proto)?;
    for offset in 0..=(last - first) {
        let key = format!("{}/{proto}", first + offset);
        let host_port = match host_range {
            None => String::new(),
            Some((host_first, host_last)) if first == last && host_first != host_last => {
                format!("{host_first}-{host_last}")
            }
            Some((host_first, _)) => (host_first + offset).to_string(),
        };
        ports.exposed.insert(key.clone(), json!({}));
        let binding = json!({"HostIp": ip, "HostPort": host_port});
        match ports.bindings.entry(key).or_insert_with(|| json!([])) {
            Value::Array(list) => list.push(binding),
            other => *other = json!([binding]),
        }
    }
    Ok(())
}

fn check_ip(text: &str) -> Result<String, String> {
    let bare = match text.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or_else(|| format!("Invalid ip address {text}: address {text}:: missing ']' in address"))?,
        None if text.contains(':') => {
            return Err(format!("Invalid ip address {text}: address {text}:: too many colons in address"));
        }
        None => text,
    };
    match bare.is_empty() || bare.parse::<IpAddr>().is_ok() {
        true => Ok(bare.to_owned()),
        false => Err(format!("Invalid ip address: {bare}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(spec: &str) -> String {
        match parse(&[spec], &[]) {
            Ok(ports) => Value::Object(ports.bindings).to_string(),
            Err(why) => why,
        }
    }

    #[test]
    fn every_form_of_publish_is_understood() {
        let cases = [
            ("80", r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#),
            ("8080:80", r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#),
            ("127.0.0.1::53/udp", r#"{"53/udp":[{"HostIp":"127.0.0.1","HostPort":""}]}"#),
            ("[::1]:1:2/UDP", r#"{"2/udp":[{"HostIp":"::1","HostPort":"1"}]}"#),
            ("1-2:3-4", r#"{"3/tcp":[{"HostIp":"","HostPort":"1"}],"4/tcp":[{"HostIp":"","HostPort":"2"}]}"#),
            ("8000-8010:80", r#"{"80/tcp":[{"HostIp":"","HostPort":"8000-8010"}]}"#),
            ("published=1,target=2,protocol=udp", r#"{"2/udp":[{"HostIp":"","HostPort":"1"}]}"#),
            ("a:80", "Invalid hostPort: a"),
            ("80:b", "Invalid containerPort: b"),
            ("80:", "No port specified: 80:<empty>"),
            ("1-3:3-4", "Invalid ranges specified for container and host Ports: 3-4 and 1-3"),
            ("80/foo", "Invalid proto: foo"),
            ("80:80/tcp/udp", "Invalid proto: tcp/udp"),
            ("8080/tcp:80", "Invalid hostPort: 8080/tcp"),
            ("999.1.1.1:1:2", "Invalid ip address: 999.1.1.1"),
            ("70000:80", "Invalid hostPort: 70000"),
            ("::1:80:80", "Invalid ip address ::1: address ::1:: too many colons in address"),
        ];
        for (spec, expected) in cases {
            assert_eq!(bindings(spec), expected, "{spec}");
        }
    }

    #[test]
    fn exposed_ranges_are_spelled_out() {
        let ports = parse(&[], &["80", "90-91/udp"]).unwrap();
        assert_eq!(ports.exposed.keys().collect::<Vec<_>>(), ["80/tcp", "90/udp", "91/udp"]);
        assert!(parse(&[], &["x"]).unwrap_err().starts_with("invalid range format for --expose: "));
        assert_eq!(parse(&[], &["80:80"]).unwrap_err(), "invalid port format for --expose: 80:80");
    }
}
