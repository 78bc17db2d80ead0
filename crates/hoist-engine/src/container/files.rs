//! The files that Docker binds into a container: hostname, hosts, resolv.conf. They live in the directory of its run, in
//! memory on most machines, and are rewritten in place at each start (the same inode: others edit them while the container
//! runs).

use std::net::IpAddr;
use std::path::Path;

use crate::container::record::Record;
use crate::context::Context;
use crate::error::{Error, Result, io};
use crate::links;

/// Writes the three files.
pub(super) fn write(record: &Record, context: &Context, directory: &Path) -> Result<()> {
    let host = &record.fixed.host_config;
    if host.network_mode.starts_with("container:") {
        return Ok(());
    }
    let config = &record.fixed.config;
    put(&directory.join("hostname"), &format!("{}\n", config.hostname))?;
    let mut extra = extra_hosts(record, context)?;
    extra.extend(links::hosts(record, &|name| context.peer(name))?);
    let linked = context.linked();
    links::tell(record, linked.iter().map(|(other, directory)| (other.as_ref(), directory.clone())));
    let ip = record.state.endpoint.as_ref().map(|e| IpAddr::V4(e.ip));
    let hosts = if host.network_mode == "host" {
        let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        for (name, ip) in &extra {
            text.push_str(&format!("{ip}\t{name}\n"));
        }
        text
    } else {
        hoist_network::hosts_file(&config.hostname, &config.domainname, ip, &extra)
    };
    put(&directory.join("hosts"), &hosts)?;
    let settings = &context.settings;
    let pick = |own: &[String], default: &[String]| if own.is_empty() { default.to_vec() } else { own.to_vec() };
    let (dns, search) = (pick(&host.dns, &settings.dns), pick(&host.dns_search, &settings.dns_search));
    let options = pick(&host.dns_options, &settings.dns_options);
    let wishes = hoist_network::ResolverWishes { servers: &dns, search: &search, options: &options };
    let shares_network = host.network_mode == "host";
    let on_host = hoist_network::HostResolver::read(shares_network);
    put(&directory.join("resolv.conf"), &hoist_network::resolv_conf(&on_host, shares_network, wishes))
}

/// Truncates and writes, keeping the inode.
fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(io("write", path))
}

/// `name:ip` entries; `host-gateway` is the engine's address on the bridge.
fn extra_hosts(record: &Record, context: &Context) -> Result<Vec<(String, IpAddr)>> {
    record
        .fixed
        .host_config
        .extra_hosts
        .iter()
        .flatten()
        .map(|entry| {
            let (name, ip) =
                entry.split_once(':').ok_or_else(|| Error::invalid(format!("bad format for add-host: \"{entry}\"")))?;
            let ip = ip.trim_start_matches('[').trim_end_matches(']');
            if ip == "host-gateway" {
                let gateway = match context.settings.host_gateway {
                    Some(ip) => ip,
                    None => {
                        IpAddr::V4(context.networks.get("bridge").map_err(|e| Error::internal(e.to_string()))?.gateway)
                    }
                };
                return Ok((name.to_owned(), gateway));
            }
            let ip = ip.parse().map_err(|_| Error::invalid(format!("invalid IP address in add-host: \"{ip}\"")))?;
            Ok((name.to_owned(), ip))
        })
        .collect()
}
