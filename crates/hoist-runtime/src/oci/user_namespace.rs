//! User namespaces: the maps of a container's own, what of it a configuration may say, and namespaces that only lend their
//! maps to a mount.

use std::fmt::Write;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use hoist_sys::namespace::Namespaces;
use hoist_sys::process::{self, Cloned};
use hoist_sys::signal;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::fault::{Fault, Result, Trying};
use crate::init;
use crate::init::mounts::{is_bind, needs_host_namespace};
use crate::supervisor::namespaces::joined_path;

/// The two maps of a user namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps<'a> {
    users: &'a [LinuxIdMapping],
    groups: &'a [LinuxIdMapping],
}

impl<'a> Maps<'a> {
    pub(super) fn of_container(linux: &'a Linux) -> Maps<'a> {
        Maps {
            users: linux.uid_mappings().as_deref().unwrap_or_default(),
            groups: linux.gid_mappings().as_deref().unwrap_or_default(),
        }
    }

    fn of_mount(mount: &'a Mount) -> Maps<'a> {
        Maps {
            users: mount.uid_mappings().as_deref().unwrap_or_default(),
            groups: mount.gid_mappings().as_deref().unwrap_or_default(),
        }
    }

    fn is_empty(self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    fn is_half(self) -> bool {
        self.users.is_empty() != self.groups.is_empty()
    }

    /// Gives them to the new user namespace of a process.
    pub(super) fn write(self, pid: i32) -> Result<()> {
        for (file, map) in [("gid_map", self.groups), ("uid_map", self.users)] {
            let mut lines = String::new();
            for part in map {
                let _ = writeln!(lines, "{} {} {}", part.container_id(), part.host_id(), part.size());
            }
            // One write: the kernel takes a map as a whole, once.
            fs::write(format!("/proc/{pid}/{file}"), &lines)
                .trying(|| format!("write {file} {:?}", lines.trim_end()))?;
        }
        Ok(())
    }

    /// A user namespace with these maps and no process in it.
    fn into_namespace(self) -> Result<OwnedFd> {
        let parent = rustix::process::getpid();
        let (pid, pidfd) = match process::clone(Namespaces::USER, None).trying(|| "make user namespace")? {
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
            Cloned::Child => lend_maps(parent),
        };
        let made = self.write(pid).and_then(|()| {
            fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from).trying(|| "open user namespace")
        });
        let _ = signal::send_by_pidfd(pidfd.as_fd(), signal::KILL);
        let _ = process::wait(pid);
        made
    }
}

/// In the process that only holds a user namespace: until the end comes from outside, or with its parent.
fn lend_maps(parent: rustix::process::Pid) -> ! {
    let bound = process::set_parent_death_signal(signal::KILL);
    if bound.is_err() || rustix::process::getppid() != Some(parent) {
        process::exit_now(1)
    }
    loop {
        std::thread::park();
    }
}

/// Refuses what contradicts itself, in runc's words where it has some.
pub(super) fn check(spec: &Spec) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let maps = Maps::of_container(linux);
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    match namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User) {
        None if !maps.is_empty() => {
            let why = "user namespace mappings specified, but user namespace isn't enabled in the config";
            return Err(Fault::new(why));
        }
        Some(namespace) if joined_path(namespace).is_none() && maps.is_empty() => {
            let why = "user namespaces enabled, but no namespace path to join nor mappings to apply specified";
            return Err(Fault::new(why));
        }
        Some(namespace) if joined_path(namespace).is_none() && maps.is_half() => {
            return Err(Fault::new("user namespaces need both linux.uidMappings and linux.gidMappings"));
        }
        Some(namespace) if joined_path(namespace).is_some() && !maps.is_empty() => {
            let why =
                "linux.uidMappings and linux.gidMappings cannot be set for a user namespace that is joined by path";
            return Err(Fault::new(why));
        }
        _ => {}
    }
    match spec.mounts().iter().flatten().find(|mount| Maps::of_mount(mount).is_half()) {
        Some(mount) => {
            let destination = mount.destination();
            Err(Fault::new(format!("mount {destination:?}: both uidMappings and gidMappings must be specified")))
        }
        None => Ok(()),
    }
}

/// Opens the sources of bind mounts that init could not open in its namespaces, and maps the owners of those that ask for
/// it: by maps of their own, or by the container's. By index of the mount.
pub(super) fn open_sources(spec: &Spec, new_user: bool) -> Result<Vec<(usize, OwnedFd)>> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let failed =
        |mount: &Mount, why: &str| Fault::new(format!("error mounting to rootfs at {:?}: {why}", mount.destination()));
    if let Some(mount) = mounts.iter().find(|mount| owner_mapping(mount).is_some() && !is_bind(mount)) {
        return Err(failed(mount, "only bind mounts can be ID-mapped"));
    }
    let opened = init::mounts::open_sources(spec, |mount| {
        owner_mapping(mount).is_some() || needs_host_namespace(mount) || (new_user && is_bind(mount))
    })?;
    for (index, source) in &opened {
        let Some((mount, recursive)) = mounts.get(*index).and_then(|mount| Some((mount, owner_mapping(mount)?))) else {
            continue;
        };
        let namespace = owner_namespace(spec, mount)
            .map_err(|fault| failed(mount, &fault.message))?
            .ok_or_else(|| failed(mount, "ID-mapped mounts need uidMappings and gidMappings, or a user namespace"))?;
        hoist_sys::mount::map_owners(source.as_fd(), namespace.as_fd(), recursive)
            .map_err(|error| failed(mount, &format!("map owners: {}", hoist_sys::errno_text(&error))))?;
    }
    Ok(opened)
}

/// Whether the owners of a mount are mapped, and (true) those of the mounts below it too.
fn owner_mapping(mount: &Mount) -> Option<bool> {
    init::mounts::maps_owners(mount).or_else(|| (!Maps::of_mount(mount).is_empty()).then_some(false))
}

fn owner_namespace(spec: &Spec, mount: &Mount) -> Result<Option<OwnedFd>> {
    let own = Maps::of_mount(mount);
    if !own.is_empty() {
        return own.into_namespace().map(Some);
    }
    let Some(linux) = spec.linux() else { return Ok(None) };
    let namespaces = linux.namespaces().iter().flatten();
    let joined = namespaces.filter(|namespace| namespace.typ() == LinuxNamespaceType::User);
    if let Some(path) = joined.filter_map(joined_path).next() {
        return fs::File::open(path).map(|file| Some(file.into())).trying(|| format!("open {}", path.display()));
    }
    let container = Maps::of_container(linux);
    if container.is_empty() { Ok(None) } else { container.into_namespace().map(Some) }
}
