//! Which namespaces of a spec are made and which are joined.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use hoist_sys::namespace::Namespaces;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::failure::{OrFail, Result};
use crate::kit::Kit;
use crate::protocol::Failure;

/// Namespaces to make and to join.
pub(crate) struct Plan {
    pub(crate) created: Namespaces,
    pub(crate) new_cgroup: bool,
    /// In this order: what is joined later may take away the right to join others.
    pub(crate) join: Vec<(Namespaces, OwnedFd)>,
    pub(crate) join_pid: Option<OwnedFd>,
    pub(crate) user: User,
    /// The clocks of a new time namespace have to be set before a process is in it.
    pub(crate) new_time: bool,
    /// No mount namespace is named: the container is in the caller's.
    pub(crate) shares_mounts: bool,
}

/// What a process that is exec'd in a container joins, its pid namespace aside, which it is born in.
pub(crate) const OF_EXEC: Namespaces =
    Namespaces::MOUNT.with(Namespaces::NETWORK).with(Namespaces::IPC).with(Namespaces::UTS).with(Namespaces::CGROUP);

/// The user namespace of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The caller's.
    Own,
    /// Made with the container.
    New,
    /// Another one.
    Joined,
}

pub(crate) fn plan(spec: &Spec) -> Result<Plan> {
    let mut plan = Plan {
        created: Namespaces::default(),
        new_cgroup: false,
        join: Vec::new(),
        join_pid: None,
        user: User::Own,
        new_time: false,
        shares_mounts: false,
    };
    let mut seen = Namespaces::default();
    for namespace in spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten() {
        let kind = kind(namespace.typ());
        if seen.contains(kind) {
            return Err(Failure::other(format!(
                "malformed spec file: duplicated ns {:?}",
                namespace.typ().to_string()
            )));
        }
        seen |= kind;
        match joined_path(namespace) {
            Some(path) => plan.add_joined(kind, path)?,
            None => plan.add_new(kind),
        }
    }
    plan.shares_mounts = !seen.contains(Namespaces::MOUNT);
    plan.join.sort_by_key(|(kind, _)| match *kind {
        Namespaces::USER => 2,
        Namespaces::MOUNT => 1,
        _ => 0,
    });
    Ok(plan)
}

fn kind(kind: LinuxNamespaceType) -> Namespaces {
    match kind {
        LinuxNamespaceType::Mount => Namespaces::MOUNT,
        LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
        LinuxNamespaceType::Uts => Namespaces::UTS,
        LinuxNamespaceType::Ipc => Namespaces::IPC,
        LinuxNamespaceType::Pid => Namespaces::PID,
        LinuxNamespaceType::Network => Namespaces::NETWORK,
        LinuxNamespaceType::User => Namespaces::USER,
        LinuxNamespaceType::Time => Namespaces::TIME,
    }
}

impl Plan {
    fn add_new(&mut self, kind: Namespaces) {
        match kind {
            Namespaces::CGROUP => self.new_cgroup = true,
            Namespaces::TIME => self.new_time = true,
            _ => self.created |= kind,
        }
        if kind == Namespaces::USER {
            self.user = User::New;
        }
    }

    fn add_joined(&mut self, kind: Namespaces, path: &Path) -> Result<()> {
        let fd = File::open(path).or_fail(|| format!("open namespace {}", path.display()))?.into();
        match kind {
            Namespaces::PID => self.join_pid = Some(fd),
            // Entering one's own is an error to the kernel, and nothing to us.
            Namespaces::USER if is_own("user", &fd) => {}
            // What is done to its mounts would be done to ours.
            Namespaces::MOUNT if is_own("mnt", &fd) => {
                return Err(Failure::other("the mount namespace to join is the runtime's own"));
            }
            Namespaces::USER => {
                self.user = User::Joined;
                self.join.push((kind, fd));
            }
            _ => self.join.push((kind, fd)),
        }
        Ok(())
    }

    /// Containers of the engine have no use for what only a process of its own can prepare.
    pub(super) fn check_plain(&self) -> Result<()> {
        if self.shares_mounts {
            return Err(Failure::other("the container needs a mount namespace"));
        }
        if self.user != User::Own || self.new_time {
            return Err(Failure::other("user and time namespaces are not supported for containers of the engine"));
        }
        Ok(())
    }

    /// New namespaces that the kit has need not be made.
    pub(super) fn join_ready(&mut self, kit: &mut Kit) -> Result<()> {
        if !self.created.contains(Namespaces::NETWORK) {
            kit.discard_network();
        }
        if !self.created.contains(Namespaces::IPC) {
            kit.discard_ipc();
        }
        let ready =
            [(Namespaces::NETWORK, kit.network().map(|network| &network.namespace)), (Namespaces::IPC, kit.ipc())];
        for (kind, namespace) in ready {
            if let Some(namespace) = namespace {
                let namespace = namespace.try_clone().or_fail(|| "duplicate namespace")?;
                self.created = self.created.without(kind);
                self.join.push((kind, namespace));
            }
        }
        Ok(())
    }
}

/// Where the namespace is that is joined; `None` if a new one is made.
pub(crate) fn joined_path(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn is_own(kind: &str, fd: &OwnedFd) -> bool {
    let own = rustix::fs::stat(format!("/proc/self/ns/{kind}"));
    let other = rustix::fs::fstat(fd);
    matches!((own, other), (Ok(own), Ok(other)) if (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}
