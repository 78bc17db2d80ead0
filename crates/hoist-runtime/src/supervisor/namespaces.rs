//! Which namespaces of a spec are made and which are joined.

use std::fs::File;
use std::os::fd::OwnedFd;

use hoist_sys::namespace::Namespaces;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::failure::{OrFail, Result};
use crate::kit::Kit;
use crate::protocol::Failure;

/// Namespaces to make and to join.
pub(crate) struct Plan {
    pub(crate) created: Namespaces,
    pub(crate) new_cgroup: bool,
    pub(crate) join: Vec<(Namespaces, OwnedFd)>,
    pub(crate) join_pid: Option<OwnedFd>,
}

pub(crate) fn plan(spec: &Spec) -> Result<Plan> {
    let mut plan = Plan { created: Namespaces::default(), new_cgroup: false, join: Vec::new(), join_pid: None };
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten();
    for namespace in listed {
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => Namespaces::MOUNT,
            LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
            LinuxNamespaceType::Uts => Namespaces::UTS,
            LinuxNamespaceType::Ipc => Namespaces::IPC,
            LinuxNamespaceType::Pid => Namespaces::PID,
            LinuxNamespaceType::Network => Namespaces::NETWORK,
            LinuxNamespaceType::User => return Err(Failure::other("user namespaces are not supported")),
            LinuxNamespaceType::Time => return Err(Failure::other("time namespaces are not supported")),
        };
        let Some(path) = namespace.path() else {
            if kind == Namespaces::CGROUP {
                plan.new_cgroup = true
            } else {
                plan.created |= kind
            }
            continue;
        };
        let fd = File::open(path).or_fail(|| format!("open namespace {}", path.display()))?.into();
        match kind {
            Namespaces::PID => plan.join_pid = Some(fd),
            Namespaces::MOUNT => return Err(Failure::other("joining a mount namespace is not supported")),
            _ => plan.join.push((kind, fd)),
        }
    }
    if !plan.created.contains(Namespaces::MOUNT) {
        return Err(Failure::other("the container needs a new mount namespace"));
    }
    Ok(plan)
}

impl Plan {
    /// A new network namespace is there already, if the kit has one.
    pub(super) fn join_ready_network(&mut self, kit: &mut Kit) -> Result<()> {
        if !self.created.contains(Namespaces::NETWORK) {
            kit.discard_network();
        } else if let Some(network) = kit.network() {
            let namespace = network.namespace.try_clone().or_fail(|| "duplicate network namespace")?;
            self.created = self.created.without(Namespaces::NETWORK);
            self.join.push((Namespaces::NETWORK, namespace));
        }
        Ok(())
    }
}
