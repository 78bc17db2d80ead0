//! The spec's `cgroup` mount: on v2 the unified hierarchy, on v1 a tmpfs with the container's own group of each hierarchy,
//! bound from the host's mounts: in a cgroup namespace of the container's own that is what a new mount would show.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoist_sys::mount::{self, Change, Propagation, attribute};
use hoist_sys::rootfs::Kind;
use oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsOpenFlags, MoveMountFlags, OpenTreeFlags};

use super::mounts::{bind_fd, finish, is_bind, mount_point};
use super::options::Options;
use super::{attach, open_host};
use crate::cgroup::{self, Cgroup, Hierarchy};
use crate::failure::text;

/// Where the host has its hierarchies.
const HOST_MOUNT: &str = "/sys/fs/cgroup";

/// What the mount is made of.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    /// The container's, entered by now.
    pub(super) cgroup: Option<&'a dyn Cgroup>,
    /// What [`directory_of_hierarchies`] makes, if it was made before.
    pub(super) ready: Option<BorrowedFd<'a>>,
}

/// Whether a mount of the spec is one for this file.
pub(super) fn is_wanted(mount: &Mount) -> bool {
    matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) && !is_bind(mount)
}

/// The error is only the reason.
pub(super) fn mount(
    path: &Path,
    kind: &str,
    options: &Options,
    root: BorrowedFd<'_>,
    groups: Groups<'_>,
) -> Result<(), String> {
    let target = mount_point(root, path, Kind::Directory)?;
    // What is bound from the host must not lead back to it.
    let change = Change { recursive: false, propagation: Some(Propagation::Slave), ..options.top };
    if kind == "cgroup2" || is_unified() {
        return unified(target.as_fd(), change).map_err(text);
    }
    let made;
    let directory = match groups.ready {
        Some(ready) => ready,
        None => {
            made = directory_of_hierarchies().map_err(text)?;
            made.as_fd()
        }
    };
    attach(directory, target.as_fd()).map_err(text)?;
    let own = groups.cgroup.map(Cgroup::paths).ok_or("the container has no control group of its own")?;
    for (hierarchy, (_, group)) in cgroup::hierarchies().iter().zip(&own) {
        let place = hierarchy.mount_point.display();
        bind_group(hierarchy, group, directory, change)
            .map_err(|error| format!("cgroup hierarchy {place}: {}", text(error)))?;
    }
    if change.set & attribute::READ_ONLY != 0 {
        let change = Change { set: attribute::READ_ONLY, ..Change::default() };
        mount::set_attributes(directory, change).map_err(text)?;
    }
    Ok(())
}

/// A tmpfs, detached, with a place for each of the host's v1 hierarchies.
pub(crate) fn directory_of_hierarchies() -> io::Result<OwnedFd> {
    let tmpfs = tmpfs()?;
    for hierarchy in cgroup::hierarchies() {
        let Some(name) = name(hierarchy) else { continue };
        rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(0o755))?;
        // `cpu,cpuacct` is also to be found under each of its names.
        let names = hierarchy.controllers.iter().filter(|_| hierarchy.controllers.len() > 1);
        for controller in names.filter(|controller| name != controller.as_str()) {
            rustix::fs::symlinkat(name, &tmpfs, controller.as_str())?;
        }
    }
    Ok(tmpfs)
}

fn name(hierarchy: &Hierarchy) -> Option<&OsStr> {
    hierarchy.mount_point.file_name()
}

/// Whether the host has only cgroup v2.
fn is_unified() -> bool {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    rustix::fs::statfs(HOST_MOUNT).is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC)
}

fn unified(target: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    let mounted = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(io::Error::from)
        .and_then(|context| finish(context.as_fd(), change));
    match mounted {
        Ok(tree) => attach(tree.as_fd(), target),
        // In a user namespace of others, or when the kernel keeps the hierarchy busy: the host's mount does.
        Err(error) if matches!(error.raw_os_error(), Some(1 | 16)) => {
            bind_fd(open_host(Path::new(HOST_MOUNT), OFlags::PATH)?.as_fd(), target, change)
        }
        Err(error) => Err(error),
    }
}

fn tmpfs() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "tmpfs")?;
    rustix::mount::fsconfig_set_string(&context, "mode", "755")?;
    let set = attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
    finish(context.as_fd(), Change { set, ..Change::default() })
}

/// Onto its place in a directory that nobody but us has seen.
fn bind_group(hierarchy: &Hierarchy, group: &Path, directory: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    let Some(name) = name(hierarchy) else { return Ok(()) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, group, flags)?;
    mount::set_attributes(tree.as_fd(), change)?;
    Ok(rustix::mount::move_mount(&tree, "", directory, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
