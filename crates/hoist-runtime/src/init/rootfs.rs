//! The root filesystem: into the new mount namespace, and then in place of the old root.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoist_sys::mount::{self, Change, Propagation, attribute};
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};

use super::Context;
use crate::failure::{OrFail, Result};
use crate::protocol::Failure;
use crate::supervisor::overlay;

/// Where the root comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A detached mount.
    Detached(OwnedFd),
    /// An overlay to be mounted by mount(2) in the new mount namespace, on kernels whose overlayfs lacks the new mount
    /// API.
    Legacy { lower: Vec<PathBuf>, upper: PathBuf, work: PathBuf, volatile: bool },
    /// A mount in its place: the container shares the mount namespace of who made it, in which nothing else may change.
    Attached(OwnedFd),
}

/// Makes the root part of the (new) mount namespace and returns it.
pub(super) fn attach(context: &Context<'_>) -> Result<OwnedFd> {
    if let Some(Source::Attached(root)) = context.root {
        return root.try_clone().or_fail(|| "root filesystem");
    }
    isolate_mounts(context.spec())?;
    let made;
    let source = match context.root {
        Some(root) => root,
        None => {
            made = overlay::open(&context.launch.rootfs)?;
            &made
        }
    };
    match source {
        Source::Detached(root) => {
            // On top of the old root: no directory is needed, and the pivot takes it away from there.
            rustix::mount::move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .or_fail(|| "attach root filesystem")?;
            root.try_clone().or_fail(|| "attach root filesystem")
        }
        // On a directory of the same overlay, so that none has to be made.
        Source::Legacy { upper, .. } => source.mount_legacy(upper),
        Source::Attached(_) => Err(Failure::other("root filesystem is mounted already")),
    }
}

impl Source {
    pub(crate) fn into_detached(self) -> Option<OwnedFd> {
        match self {
            Source::Detached(root) => Some(root),
            Source::Legacy { .. } | Source::Attached(_) => None,
        }
    }

    /// Mounts the overlay on a directory, when it is one for mount(2). The page of options that this takes holds any
    /// number of layers when each is the number of an fd. The layers are opened here because overlayfs before 6.7 takes
    /// none of another mount namespace.
    fn mount_legacy(&self, directory: &Path) -> Result<OwnedFd> {
        let Source::Legacy { lower, upper, work, volatile } = self else {
            return Err(Failure::other("root filesystem is mounted already"));
        };
        let mut opened = Vec::new();
        let mut open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let fd = super::open_host(path, flags).or_fail(|| format!("open {}", path.display()))?;
            let number = fd.as_raw_fd().to_string();
            opened.push(fd);
            Ok(number)
        };
        let lower = lower.iter().map(|layer| open(layer)).collect::<Result<Vec<_>>>()?.join(":");
        let mut options = format!("lowerdir={lower},upperdir={},workdir={}", open(upper)?, open(work)?);
        if *volatile {
            options.push_str(",volatile");
        }
        rustix::process::chdir("/proc/self/fd").or_fail(|| "chdir to /proc/self/fd")?;
        let options = std::ffi::CString::new(options).map_err(|_| Failure::other("NUL in layer path"))?;
        rustix::mount::mount("overlay", directory, "overlay", MountFlags::empty(), options.as_c_str())
            .or_fail(|| format!("mount overlay on {}", directory.display()))?;
        super::open_host(directory, OFlags::PATH | OFlags::DIRECTORY).or_fail(|| "open root filesystem")
    }
}

/// Puts the root on a directory of the (own, private) mount namespace, for another runtime to find it there.
pub(crate) fn attach_on(source: &Source, directory: &Path) -> Result<()> {
    let own = super::open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).or_fail(|| "open /")?;
    let change = Change { propagation: Some(Propagation::Slave), recursive: true, ..Change::default() };
    mount::set_attributes(own.as_fd(), change).or_fail(|| "change propagation of /")?;
    match source {
        Source::Detached(root) => {
            rustix::mount::move_mount(root, "", CWD, directory, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .or_fail(|| "attach root filesystem")
        }
        Source::Legacy { .. } | Source::Attached(_) => source.mount_legacy(directory).map(drop),
    }
}

/// What happens to mounts from here on must not reach the host. Slave, so that the host's unmounts still reach us.
fn isolate_mounts(spec: &Spec) -> Result<()> {
    let propagation = match spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref()) {
        Some("private" | "rprivate") => Propagation::Private,
        _ => Propagation::Slave,
    };
    let root = super::open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).or_fail(|| "open /")?;
    let change = Change { propagation: Some(propagation), recursive: true, ..Change::default() };
    mount::set_attributes(root.as_fd(), change).or_fail(|| "change propagation of /")
}

/// Makes `root` the root; then propagation and read-only as the spec says.
pub(super) fn enter(context: &Context<'_>, root: &OwnedFd) -> Result<()> {
    if context.shares_mounts() {
        change_root(root.as_fd())?;
    } else {
        pivot(root)?;
    }
    set_attributes(root.as_fd(), context.spec())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// The root of the calling process alone; it is in it.
pub(crate) fn change_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).or_fail(|| "chdir to root filesystem")?;
    rustix::process::chroot(".").or_fail(|| "chroot")?;
    rustix::process::chdir("/").or_fail(|| "chdir to /")
}

/// Drops the old root.
fn pivot(root: &OwnedFd) -> Result<()> {
    let old = super::open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).or_fail(|| "open /")?;
    rustix::process::fchdir(root).or_fail(|| "chdir to root filesystem")?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            rustix::process::fchdir(&old).or_fail(|| "chdir to old root")?;
            rustix::mount::unmount(".", UnmountFlags::DETACH).or_fail(|| "unmount old root")?;
            rustix::process::chdir("/").or_fail(|| "chdir to /")
        }
        // The old root is an initramfs, which cannot be pivoted: it stays, covered by the mount on top of it.
        Err(rustix::io::Errno::INVAL) => change_root(root.as_fd()),
        Err(error) => Err(error).or_fail(|| "pivot_root"),
    }
}

fn set_attributes(root: BorrowedFd<'_>, spec: &Spec) -> Result<()> {
    let propagation = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    if let Some(name) = propagation.filter(|name| !name.is_empty()) {
        let (propagation, recursive) = parse_propagation(name)?;
        let change = Change { propagation: Some(propagation), recursive, ..Change::default() };
        mount::set_attributes(root, change).or_fail(|| "change propagation of root filesystem")?;
    }
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly) == Some(true) {
        let change = Change { set: attribute::READ_ONLY, ..Change::default() };
        mount::set_attributes(root, change).or_fail(|| "make root filesystem read-only")?;
    }
    Ok(())
}

fn parse_propagation(name: &str) -> Result<(Propagation, bool)> {
    Ok(match name {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        _ => return Err(Failure::other(format!("rootfsPropagation {name:?} is not supported"))),
    })
}
