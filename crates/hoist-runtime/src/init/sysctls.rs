//! `linux.sysctl`: only what belongs to a namespace of the container, written by way of the host's /proc, where the kernel
//! looks at the namespaces of the writer.

use std::io::Write;
use std::path::Path;

use hoist_sys::rootfs;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::OFlags;

use super::host_proc::HostProc;
use crate::failure::{OrFail, Result};
use crate::protocol::Failure;

/// Those of the IPC namespace, besides `fs.mqueue.`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

fn all(spec: &Spec) -> impl Iterator<Item = (&String, &String)> {
    spec.linux().iter().filter_map(|linux| linux.sysctl().as_ref()).flatten()
}

/// `a/b.c` names the component `b.c` (an interface with a dot), as sysctl.d(5) has it.
fn with_dots(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(first) if key.as_bytes()[first] == b'/' => path_of(key),
        _ => key.to_owned(),
    }
}

/// Below /proc/sys.
fn path_of(key: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

/// Refuses what would change the host, before anything is made.
pub(crate) fn check(spec: &Spec) -> Result<()> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let own = |kind| namespaces.into_iter().flatten().any(|namespace| namespace.typ() == kind);
    for (key, value) in all(spec) {
        let key = with_dots(key);
        let plain = path_of(&key).split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain || value.contains(['\n', '\0']) || key.contains('\0') {
            return Err(Failure::other(format!("invalid sysctl {key:?}={value:?}")));
        }
        let kind = match key.as_str() {
            name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => LinuxNamespaceType::Ipc,
            name if name.starts_with("net.") => LinuxNamespaceType::Network,
            "kernel.domainname" => LinuxNamespaceType::Uts,
            "kernel.hostname" => {
                return Err(Failure::other("sysctl \"kernel.hostname\" is not allowed: use the hostname"));
            }
            _ => return Err(Failure::other(format!("sysctl {key:?} is not in a separate kernel namespace"))),
        };
        if !own(kind) {
            return Err(Failure::other(format!("sysctl {key:?} is not allowed in the hosts {kind} namespace")));
        }
    }
    Ok(())
}

/// Whether a key names an interface, which must exist first.
pub(super) fn need_network(spec: &Spec) -> bool {
    all(spec).any(|(key, _)| {
        let key = with_dots(key);
        key.starts_with("net.") && (key.contains(".conf.") || key.contains(".neigh."))
    })
}

pub(super) fn write(spec: &Spec, proc: &HostProc) -> Result<()> {
    let mut directory = None;
    for (key, value) in all(spec) {
        let key = with_dots(key);
        let fail = || format!("write sysctl key {key}");
        if directory.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            directory = Some(proc.open_at("sys", flags).or_fail(fail)?);
        }
        let Some(directory) = &directory else { continue };
        let path = path_of(&key);
        let directory = std::os::fd::AsFd::as_fd(directory);
        let file = rootfs::open_without_symlinks(directory, Path::new(&path), OFlags::WRONLY).or_fail(fail)?;
        std::fs::File::from(file).write_all(value.as_bytes()).or_fail(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(key: &str, value: &str) -> Spec {
        let json = format!(
            r#"{{"ociVersion":"1.2.0","linux":{{"namespaces":[{{"type":"network"}},{{"type":"ipc"}}],
                "sysctl":{{{key:?}:{value:?}}}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn only_namespaced_keys_and_single_values_are_taken() {
        for (key, value) in [("net.ipv4.ip_forward", "1"), ("kernel.shmmax", "1"), ("net/ipv4/conf/eth0.1/x", "0")] {
            check(&spec(key, value)).unwrap();
        }
        for (key, value) in [
            ("kernel.core_pattern", "|/x"),
            ("kernel.shmmax", "1\nkernel.core_pattern=|/x"),
            ("net.ipv4/../../kernel/core_pattern", "x"),
            ("net/../kernel/core_pattern", "x"),
            ("kernel.domainname", "x"),
            ("kernel.hostname", "x"),
            ("", ""),
            ("net.", ""),
        ] {
            assert!(check(&spec(key, value)).is_err(), "{key}");
        }
    }

    #[test]
    fn a_key_of_an_interface_waits_for_the_network() {
        assert!(need_network(&spec("net.ipv4.conf.eth0.rp_filter", "0")));
        assert!(!need_network(&spec("net.ipv4.ip_unprivileged_port_start", "0")));
    }
}
