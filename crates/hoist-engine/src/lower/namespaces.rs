//! Which namespaces are new, shared with another container, or the host's.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::container::record::Record;
use crate::error::{Error, Kind, Result};
use crate::lower::{Peer, linux};

/// Why a container cannot share another's namespace, in Docker's words for that namespace.
pub(super) fn not_joined(namespace: &str, name: &str, error: Error) -> Error {
    let why = match error.kind {
        _ if name.is_empty() => "invalid name or ID supplied: \"\"".to_owned(),
        Kind::Conflict => format!("container {name} is not running"),
        _ => return error,
    };
    Error { message: format!("failed to join {namespace} namespace: {why}"), ..error }
}

/// The same for the network, whose words are others.
fn network_not_joined(error: Error) -> Error {
    match error.kind {
        Kind::NotFound => Error::internal(format!("joining network namespace of container: {}", error.message)),
        _ => error,
    }
}

/// Applies the `--network`, `--pid`, `--ipc`, `--uts` and `--cgroupns` modes.
pub(super) fn fill(spec: &mut Spec, record: &Record, peer: &dyn Fn(&str) -> Result<Peer>) -> Result<()> {
    let host = &record.fixed.host_config;
    let mut wanted = Vec::new();
    let modes = [
        (LinuxNamespaceType::Mount, "private", "mnt"),
        (LinuxNamespaceType::Network, host.network_mode.as_str(), "net"),
        (LinuxNamespaceType::Uts, host.uts_mode.as_str(), "uts"),
        (LinuxNamespaceType::Pid, host.pid_mode.as_str(), "pid"),
        (LinuxNamespaceType::Ipc, host.ipc_mode.as_str(), "ipc"),
        (LinuxNamespaceType::Cgroup, host.cgroupns_mode.as_str(), "cgroup"),
    ];
    let mut uts_of_network = None;
    for (kind, mode, file) in modes {
        if mode == "host" {
            continue;
        }
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        if let Some(name) = mode.strip_prefix("container:") {
            if kind == LinuxNamespaceType::Network && (name == record.id() || name == record.name) {
                return Err(Error::internal("cannot join own network namespace"));
            }
            let other = peer(name).map_err(|e| match kind {
                LinuxNamespaceType::Network => network_not_joined(e),
                LinuxNamespaceType::Pid => not_joined("PID", name, e),
                LinuxNamespaceType::Ipc => not_joined("IPC", name, e),
                _ => e,
            })?;
            namespace.set_path(Some(PathBuf::from(format!("/proc/{}/ns/{file}", other.pid))));
            if kind == LinuxNamespaceType::Network {
                uts_of_network = Some(other.hostname);
            }
        }
        wanted.push(namespace);
    }
    linux(spec)?.set_namespaces(Some(wanted));
    if let Some(hostname) = uts_of_network
        && host.uts_mode != "host"
    {
        spec.set_hostname(Some(hostname));
    }
    // Network sysctls of the default spec belong to a network namespace of our own.
    let own_network = host.network_mode != "host" && !host.network_mode.starts_with("container:");
    if !own_network && let Some(sysctls) = linux(spec)?.sysctl_mut() {
        sysctls.retain(|name, _| !name.starts_with("net."));
    }
    if let Some(own) = &host.sysctls {
        let sysctls = linux(spec)?.sysctl_mut().get_or_insert_default();
        sysctls.extend(own.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    Ok(())
}
