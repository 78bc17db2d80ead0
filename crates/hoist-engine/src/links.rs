//! `--link` on the default bridge: another container's name in `/etc/hosts` and its ports and environment in variables. A
//! record keeps a link as `<container id>:<alias>`, so that a renamed container stays linked.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use hoist_api::host_config::HostConfig;

use crate::container::record::Record;
use crate::error::{Error, Result};
use crate::lower::Peer;

/// A link to a container that runs.
struct Linked {
    alias: String,
    peer: Peer,
    address: Ipv4Addr,
}

/// Checks the links of a request and replaces names by ids.
pub(crate) fn resolve(host: &mut HostConfig, find: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    let Some(links) = host.links.as_mut().filter(|links| !links.is_empty()) else { return Ok(()) };
    let mode = host.network_mode.as_str();
    if mode == "host" {
        return Err(Error::invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ));
    }
    if mode.starts_with("container:") {
        return Err(Error::invalid(
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ));
    }
    for link in links {
        let (name, alias) = parts(link);
        if name.is_empty() {
            return Err(Error::invalid("could not get container for : invalid name or ID supplied: \"\""));
        }
        // Not "not found": clients take that for a missing image.
        let id =
            find(name).map_err(|e| Error::invalid(format!("could not get container for {name}: {}", e.message)))?;
        *link = format!("{id}:{alias}");
    }
    Ok(())
}

/// `name:alias`, or a name that is its own alias.
fn parts(link: &str) -> (&str, &str) {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    (name, if alias.is_empty() { name } else { alias })
}

/// The id of the container that `record` knows by an alias.
pub(crate) fn target<'a>(record: &'a Record, alias: &str) -> Option<&'a str> {
    let links = record.fixed.host_config.links.iter().flatten();
    links.map(|link| parts(link)).find(|(_, known)| *known == alias).map(|(id, _)| id)
}

/// The names that containers have by way of others' links, `/other/alias`: by id.
pub(crate) fn names<'a>(records: impl Iterator<Item = &'a Record>) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for record in records {
        for (id, alias) in record.fixed.host_config.links.iter().flatten().map(|link| parts(link)) {
            names.entry(id.to_owned()).or_default().push(format!("/{}/{alias}", record.name));
        }
    }
    names
}

/// Takes the link with an alias out of a configuration.
pub(crate) fn remove(host: &mut HostConfig, alias: &str) {
    if let Some(links) = &mut host.links {
        links.retain(|link| parts(link).1 != alias);
    }
}

/// Takes the alias out of the `hosts` file of a running container, whose files are in `directory`.
pub(crate) fn forget(directory: &Path, alias: &str) {
    if let Err(e) = change_host(&directory.join("hosts"), alias, None) {
        tracing::warn!("cannot take {alias} out of {}: {e}", directory.join("hosts").display());
    }
}

/// As inspect shows them: `/target:/name/alias`; a container that is gone is not linked any more.
pub(crate) fn shown(
    links: Option<Vec<String>>,
    name: &str,
    name_of: &dyn Fn(&str) -> Option<String>,
) -> Option<Vec<String>> {
    let links = links?.into_iter().filter_map(|link| {
        let (id, alias) = parts(&link);
        Some(format!("/{}:/{name}/{alias}", name_of(id)?))
    });
    Some(links.collect::<Vec<_>>()).filter(|links| !links.is_empty())
}

/// The containers a starting container is linked to; each of them must run.
fn linked(record: &Record, peer: &dyn Fn(&str) -> Result<Peer>) -> Result<Vec<Linked>> {
    let mut all = Vec::new();
    for link in record.fixed.host_config.links.iter().flatten() {
        let (id, alias) = parts(link);
        let not_running = |name: &str| {
            Error::conflict(format!("Cannot link to a non running container: /{name} AS /{}/{alias}", record.name))
        };
        let peer = peer(id).map_err(|_| not_running(id))?;
        let address = peer.address.ok_or_else(|| not_running(&peer.name))?;
        all.push(Linked { alias: alias.to_owned(), peer, address });
    }
    Ok(all)
}

/// Lines for `/etc/hosts`: the names of each linked container, and its address.
pub(crate) fn hosts(record: &Record, peer: &dyn Fn(&str) -> Result<Peer>) -> Result<Vec<(String, IpAddr)>> {
    let line = |link: Linked| {
        let mut names = format!("{} {}", link.alias, link.peer.hostname);
        if link.alias != link.peer.name {
            names = format!("{names} {}", link.peer.name);
        }
        (names, IpAddr::V4(link.address))
    };
    Ok(linked(record, peer)?.into_iter().map(line).collect())
}

/// The variables that tell of linked containers.
pub(crate) fn environment(record: &Record, peer: &dyn Fn(&str) -> Result<Peer>) -> Result<Vec<String>> {
    Ok(linked(record, peer)?.iter().flat_map(|link| variables(link, &record.name)).collect())
}

fn variables(link: &Linked, name: &str) -> Vec<String> {
    let prefix = link.alias.replace('-', "_").to_uppercase();
    let ip = link.address;
    let mut env = Vec::new();
    let mut ports: Vec<(u16, &str)> = link.peer.exposed.iter().filter_map(|port| parse_port(port)).collect();
    // TCP first: the first one is the default.
    ports.sort_by_key(|&(port, protocol)| (protocol != "tcp", protocol.to_owned(), port));
    if let Some((port, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{ip}:{port}"));
    }
    let mut rest = ports.as_slice();
    while let [(first, protocol), ..] = rest {
        let follows =
            |(at, port): (usize, &(u16, &str))| port.1 == *protocol && usize::from(port.0) == usize::from(*first) + at;
        let run = rest.iter().enumerate().take_while(|&(at, port)| follows((at, port))).count();
        if run > 2 {
            let key = format!("{prefix}_PORT_{first}_{}", protocol.to_uppercase());
            let last = rest[run - 1].0;
            env.push(format!("{key}_START={protocol}://{ip}:{first}"));
            env.push(format!("{key}_PORT_START={first}"));
            env.push(format!("{key}_END={protocol}://{ip}:{last}"));
            env.push(format!("{key}_PORT_END={last}"));
        }
        rest = &rest[run..];
    }
    for (port, protocol) in &ports {
        let key = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        env.push(format!("{key}={protocol}://{ip}:{port}"));
        env.push(format!("{key}_ADDR={ip}"));
        env.push(format!("{key}_PORT={port}"));
        env.push(format!("{key}_PROTO={protocol}"));
    }
    env.push(format!("{prefix}_NAME=/{name}/{}", link.alias));
    let own = link
        .peer
        .env
        .iter()
        .filter(|variable| variable.split_once('=').is_some_and(|(key, _)| key != "HOME" && key != "PATH"));
    env.extend(own.map(|variable| format!("{prefix}_ENV_{variable}")));
    env
}

fn parse_port(text: &str) -> Option<(u16, &str)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, protocol))
}

/// A container has another address now: the running ones that are linked to it learn it.
pub(crate) fn tell<'a>(record: &Record, others: impl Iterator<Item = (&'a Record, std::path::PathBuf)>) {
    let Some(endpoint) = &record.state.endpoint else { return };
    for (other, directory) in others {
        for link in other.fixed.host_config.links.iter().flatten() {
            let (id, alias) = parts(link);
            if id == record.id()
                && let Err(e) = change_host(&directory.join("hosts"), alias, Some(endpoint.ip))
            {
                tracing::warn!(container = other.id(), "cannot tell the new address of {alias}: {e}");
            }
        }
    }
}

/// The container may write to its hosts file too, and as much as it likes.
const HOSTS_MAX_BYTES: u64 = 1 << 20;

/// Changes the address in the line of an alias, or takes the line out, keeping the inode and all other lines.
fn change_host(path: &Path, alias: &str, ip: Option<Ipv4Addr>) -> std::io::Result<()> {
    let mut text = String::new();
    File::open(path)?.take(HOSTS_MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > HOSTS_MAX_BYTES {
        return Err(std::io::Error::other(format!("{} is longer than {HOSTS_MAX_BYTES} bytes", path.display())));
    }
    let lines = text.lines().filter_map(|line| match line.split_once('\t') {
        Some((_, names)) if names.split(' ').next() == Some(alias) => ip.map(|ip| format!("{ip}\t{names}\n")),
        _ => Some(format!("{line}\n")),
    });
    std::fs::write(path, lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_dockers() {
        let exposed = ["70/udp", "82/tcp", "80/tcp", "81/tcp"].map(str::to_owned).to_vec();
        let env = ["PATH=/bin", "FOO=bar"].map(str::to_owned).to_vec();
        let peer = Peer { exposed, env, ..Peer::default() };
        let link = Linked { alias: "my-db".to_owned(), peer, address: Ipv4Addr::new(10, 0, 0, 2) };
        let env = variables(&link, "web");
        for wanted in [
            "MY_DB_PORT=tcp://10.0.0.2:80",
            "MY_DB_PORT_80_TCP_START=tcp://10.0.0.2:80",
            "MY_DB_PORT_80_TCP_PORT_END=82",
            "MY_DB_PORT_80_TCP_END=tcp://10.0.0.2:82",
            "MY_DB_PORT_81_TCP=tcp://10.0.0.2:81",
            "MY_DB_PORT_70_UDP_PROTO=udp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_FOO=bar",
        ] {
            assert!(env.iter().any(|variable| variable == wanted), "{wanted}: {env:?}");
        }
        assert!(!env.iter().any(|variable| variable.contains("ENV_PATH")));
    }

    #[test]
    fn an_address_moves_in_its_own_line_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        std::fs::write(&path, "127.0.0.1\tlocalhost\n10.0.0.2\tdb host name\n10.0.0.3\tdbx\n").unwrap();
        change_host(&path, "db", Some(Ipv4Addr::new(10, 0, 0, 9))).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "127.0.0.1\tlocalhost\n10.0.0.9\tdb host name\n10.0.0.3\tdbx\n");
        change_host(&path, "db", None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1\tlocalhost\n10.0.0.3\tdbx\n");
    }
}
