//! Device nodes of the container's /dev: those that every container has, those of the spec, and the usual links.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use hoist_sys::mount::Change;
use hoist_sys::rootfs::{self, Kind};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::mounts::{bind_fd, is_bind};
use super::{Context, open_host};
use crate::failure::{OrFail, Result};
use crate::protocol::Failure;

/// name, major, minor: in every container, mode 0666.
const DEFAULT_NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// (name, target)
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A node to be made.
struct Node<'a> {
    path: &'a Path,
    kind: FileType,
    device: (u32, u32),
    mode: u32,
    owner: (u32, u32),
}

pub(super) fn create(context: &Context<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let spec = context.spec();
    if bound_from_host(spec) {
        return Ok(());
    }
    if !context.kit.is_some_and(|kit| kit.has_devices_of(spec)) {
        let directory = rootfs::make_directories(root, Path::new("/dev"), Mode::from_raw_mode(0o755))
            .or_fail(|| "open /dev of the container")?;
        make_usual(directory.as_fd()).or_fail(|| "error creating device nodes")?;
    }
    for device in spec.linux().as_ref().and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
        make(root, device)?;
    }
    Ok(())
}

/// The nodes and links of every container.
pub(crate) fn make_usual(directory: BorrowedFd<'_>) -> io::Result<()> {
    for (name, major, minor) in DEFAULT_NODES {
        let path = Path::new("/dev").join(name);
        let kind = FileType::CharacterDevice;
        let node = Node { path: &path, kind, device: (major, minor), mode: 0o666, owner: (0, 0) };
        make_in(directory, &node)?;
    }
    for (name, target) in LINKS {
        link(directory, name, target)?;
    }
    if rustix::fs::access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok() {
        link(directory, "core", "/proc/kcore")?;
    }
    Ok(())
}

/// A /dev that is bound from elsewhere is left as it is.
fn bound_from_host(spec: &Spec) -> bool {
    spec.mounts().iter().flatten().any(|mount| mount.destination() == Path::new("/dev") && is_bind(mount))
}

fn make(root: BorrowedFd<'_>, device: &LinuxDevice) -> Result<()> {
    let path = device.path();
    let fail = || format!("error creating device nodes: {}", path.display());
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| Failure::other(format!("{}: invalid device number {value}", fail())))
    };
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(Failure::other(format!("{}: device type \"a\" cannot be made", fail()))),
    };
    let node = Node {
        path,
        kind,
        device: (number(device.major())?, number(device.minor())?),
        mode: device.file_mode().unwrap_or(0o666),
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    };
    let (parent, _) = rootfs::parent_directory(root, path, Mode::from_raw_mode(0o755)).or_fail(fail)?;
    make_in(parent.as_fd(), &node).or_fail(fail)
}

fn make_in(directory: BorrowedFd<'_>, node: &Node<'_>) -> io::Result<()> {
    let name = node.path.file_name().ok_or(Errno::INVAL)?;
    let device = rustix::fs::makedev(node.device.0, node.device.1);
    match rustix::fs::mknodat(directory, name, node.kind, Mode::from_raw_mode(node.mode & 0o7777), device) {
        Ok(()) => {}
        // A node of the image, or given twice.
        Err(Errno::EXIST) => return Ok(()),
        // In a user namespace nodes cannot be made: the host's takes its place.
        Err(Errno::PERM) => return bind_host_node(directory, node),
        Err(error) => return Err(error.into()),
    }
    if node.owner != (0, 0) {
        let owner = (Some(Uid::from_raw(node.owner.0)), Some(Gid::from_raw(node.owner.1)));
        rustix::fs::chownat(directory, name, owner.0, owner.1, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn bind_host_node(directory: BorrowedFd<'_>, node: &Node<'_>) -> io::Result<()> {
    let source = open_host(node.path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&source)?;
    if stat.st_rdev != rustix::fs::makedev(node.device.0, node.device.1) {
        return Err(Errno::NODEV.into());
    }
    let name = Path::new("/").join(node.path.file_name().ok_or(Errno::INVAL)?);
    let target = rootfs::mount_point(directory, &name, Kind::File)?;
    bind_fd(source.as_fd(), target.as_fd(), Change::default())
}

fn link(directory: BorrowedFd<'_>, name: &str, target: &str) -> io::Result<()> {
    // The image's own /dev/ptmx would lead to another devpts.
    if name == "ptmx" {
        let _ = rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::empty());
    }
    match rustix::fs::symlinkat(target, directory, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
