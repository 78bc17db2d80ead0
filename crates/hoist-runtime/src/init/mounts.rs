//! Mounts of the spec, one after the other: binds by open_tree(2), filesystems by fsopen(2), both as detached mounts that
//! are moved onto a mount point fd. No path is resolved twice.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoist_sys::mount::{self, Change, Propagation, attribute};
use hoist_sys::rootfs::{self, Kind};
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::OFlags;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use super::cgroup_mounts::Groups;
use super::options::Options;
use super::{Context, attach, cgroup_mounts, clone_mount, copy_up};
use crate::failure::{OrFail, Result, text};
use crate::kit::Kit;
use crate::protocol::Failure;

/// Files in /proc that may be mounted over (as runc has them, for lxcfs and its like).
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

pub(super) fn mount_all(context: &mut Context<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let spec = &context.launch.spec;
    let label =
        spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty());
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        if cgroup_mounts::is_wanted(mount) {
            super::enter_cgroup(context)?;
        }
        let shared = context.shared_sources.iter().find(|(at, _)| *at == index).map(|(_, fd)| fd.as_fd());
        let ready = context.kit.filter(|_| label.is_none()).and_then(|kit| kit.filesystem(mount));
        let groups = Groups { cgroup: context.cgroup, ready: context.kit.and_then(Kit::cgroup_directory) };
        let in_host = context.shares_mounts();
        mount_one(mount, root, Given { shared, label, ready, groups, in_host }).map_err(|reason| {
            let source = mount.source().as_deref().unwrap_or(Path::new(""));
            Failure::other(format!("error mounting {source:?} to rootfs at {:?}: {reason}", mount.destination()))
        })?;
    }
    Ok(())
}

/// What comes with a mount of the spec.
#[derive(Clone, Copy)]
struct Given<'a> {
    /// The source of a bind, opened outside.
    shared: Option<BorrowedFd<'a>>,
    label: Option<&'a str>,
    /// The filesystem, made before it was asked for.
    ready: Option<BorrowedFd<'a>>,
    groups: Groups<'a>,
    /// The mount namespace is that of the host.
    in_host: bool,
}

/// The error is only the reason.
fn mount_one(mount: &Mount, root: BorrowedFd<'_>, given: Given<'_>) -> std::result::Result<(), String> {
    let Given { label, ready, groups, .. } = given;
    if let Some(tree) = ready {
        return mount_ready(mount, root, tree);
    }
    let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
    let kind = mount.typ().as_deref().unwrap_or("none");
    let target = mount.destination();
    let tree = match kind {
        _ if is_bind(mount) => return bind(mount, &options, root, given),
        _ if options.map_owners.is_some() => return Err("only bind mounts can be ID-mapped".to_owned()),
        "cgroup" | "cgroup2" => return cgroup_mounts::mount(target, kind, &options, root, groups),
        "proc" | "sysfs" => {
            let target = ordinary_directory(root, target, kind)?;
            let tree = filesystem(kind, mount, &options, &[])?;
            return attach(tree.as_fd(), target.as_fd()).map_err(text);
        }
        "tmpfs" => {
            let mut extra = Vec::new();
            let mode = existing_mode(root, target).filter(|_| options.value("mode").is_none());
            extra.extend(mode.map(|mode| ("mode", mode)));
            extra.extend(label.map(|label| ("context", label.to_owned())));
            if options.copy_up {
                filled_tmpfs(mount, &options, &extra, root)?
            } else {
                filesystem(kind, mount, &options, &extra)?
            }
        }
        _ if options.copy_up => return Err("mount option \"tmpcopyup\" is only for tmpfs".to_owned()),
        "mqueue" | "devpts" => {
            let extra = label.map(|label| ("context", label.to_owned()));
            filesystem(kind, mount, &options, extra.as_slice())?
        }
        _ => filesystem(kind, mount, &options, &[])?,
    };
    let path = target;
    let target = mount_point(root, path, Kind::Directory)?;
    // By the place itself: a link on the way, perhaps just put there, may have led into /proc.
    check_proc(path, target.as_fd(), tree.as_fd())?;
    attach(tree.as_fd(), target.as_fd()).map_err(text)?;
    propagate(tree.as_fd(), &options)
}

fn mount_ready(mount: &Mount, root: BorrowedFd<'_>, tree: BorrowedFd<'_>) -> std::result::Result<(), String> {
    let target = match mount.typ().as_deref() {
        Some("sysfs") => ordinary_directory(root, mount.destination(), "sysfs")?,
        _ => mount_point(root, mount.destination(), Kind::Directory)?,
    };
    attach(tree, target.as_fd()).map_err(text)
}

/// A filesystem as an entry of the default spec asks for it, detached.
pub(crate) fn usual_filesystem(mount: &Mount) -> std::result::Result<OwnedFd, String> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
    filesystem(mount.typ().as_deref().unwrap_or("none"), mount, &options, &[])
}

/// A tmpfs with what the root has in its place. It can only be read-only afterwards.
fn filled_tmpfs(
    mount: &Mount,
    options: &Options,
    extra: &[(&str, String)],
    root: BorrowedFd<'_>,
) -> std::result::Result<OwnedFd, String> {
    let mut writable = options.clone();
    writable.top.set &= !attribute::READ_ONLY;
    let tree = filesystem("tmpfs", mount, &writable, extra)?;
    match rootfs::open_in_root(root, mount.destination(), OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(there) => {
            copy_up::copy(there.as_fd(), tree.as_fd()).map_err(|error| format!("tmpcopyup: {}", text(error)))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("tmpcopyup: {}", text(error))),
    }
    if options.top.set & attribute::READ_ONLY != 0 {
        mount::set_attributes(tree.as_fd(), Change { set: attribute::READ_ONLY, ..Change::default() }).map_err(text)?;
    }
    Ok(tree)
}

/// A detached mount of a new filesystem.
fn filesystem(
    kind: &str,
    mount: &Mount,
    options: &Options,
    extra: &[(&str, String)],
) -> std::result::Result<OwnedFd, String> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(text)?;
    let source = mount.source().as_deref().unwrap_or(Path::new(kind));
    rustix::mount::fsconfig_set_string(&context, "source", source).map_err(text)?;
    for (key, value) in &options.data {
        let set = match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, key, value),
            None => rustix::mount::fsconfig_set_flag(&context, key),
        };
        set.map_err(|error| format!("option {key:?}: {}", text(error)))?;
    }
    for (key, value) in extra {
        rustix::mount::fsconfig_set_string(&context, *key, value)
            .map_err(|error| format!("option {key:?}: {}", text(error)))?;
    }
    finish(context.as_fd(), options.top).map_err(text)
}

/// Creates the filesystem of an fsopen(2) context and a detached mount of it.
pub(super) fn finish(context: BorrowedFd<'_>, change: Change) -> io::Result<OwnedFd> {
    rustix::mount::fsconfig_create(context)?;
    let attributes = MountAttrFlags::from_bits_retain(change.set as u32);
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn bind(
    mount: &Mount,
    options: &Options,
    root: BorrowedFd<'_>,
    Given { shared, in_host, .. }: Given<'_>,
) -> std::result::Result<(), String> {
    if options.map_owners.is_some() && shared.is_none() {
        return Err("ID-mapped mounts are not supported here".to_owned());
    }
    if let Some((key, _)) = options.data.first() {
        return Err(format!("option {key:?} has no meaning for a bind mount"));
    }
    let own;
    let tree = match shared {
        Some(shared) => shared,
        None => {
            own = open_source(mount, options).map_err(|error| {
                format!("open {}: {}", mount.source().as_deref().unwrap_or(Path::new("")).display(), text(error))
            })?;
            own.as_fd()
        }
    };
    let kind = rootfs::kind_of(tree).map_err(text)?;
    let path = mount.destination();
    let target = mount_point(root, path, kind)?;
    check_proc(path, target.as_fd(), tree)?;
    if options.top.set | options.top.clear != 0 {
        mount::set_attributes(tree, options.top).map_err(text)?;
    }
    if options.tree.set | options.tree.clear != 0 {
        mount::set_attributes(tree, Change { recursive: true, ..options.tree }).map_err(text)?;
    }
    let is_of_host = in_host || shared.is_some();
    if is_of_host && !matches!(options.propagation, Some((Propagation::Shared, _))) {
        // As what is opened in a mount namespace of the container's own: nothing spreads from there to the host.
        let change = Change { propagation: Some(Propagation::Slave), recursive: true, ..Change::default() };
        mount::set_attributes(tree, change).map_err(text)?;
    }
    propagate(tree, options)?;
    attach(tree, target.as_fd()).map_err(text)
}

/// Whether something that is there is mounted, and no filesystem made.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
}

/// Whether a bind mount must be opened in the mount namespace of the host, because it stays in its peer group.
pub(crate) fn needs_host_namespace(mount: &Mount) -> bool {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default()).unwrap_or_default();
    is_bind(mount) && matches!(options.propagation, Some((Propagation::Shared | Propagation::Slave, _)))
}

/// Whether a mount asks for its owners to be mapped, and (true) those of the mounts below it too.
pub(crate) fn maps_owners(mount: &Mount) -> Option<bool> {
    Options::parse(mount.options().as_deref().unwrap_or_default()).unwrap_or_default().map_owners
}

/// Opens the sources of those binds that are wanted, for an init that cannot. By index of the mount.
pub(crate) fn open_sources(spec: &Spec, wanted: impl Fn(&Mount) -> bool) -> Result<Vec<(usize, OwnedFd)>> {
    let mounts = spec.mounts().iter().flatten().enumerate().filter(|(_, mount)| wanted(mount));
    mounts.map(|(index, mount)| Ok((index, open_source_outside(mount)?))).collect()
}

fn open_source_outside(mount: &Mount) -> Result<OwnedFd> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default()).map_err(Failure::other)?;
    let source = mount.source().clone().unwrap_or_default();
    open_source(mount, &options).or_fail(|| {
        let destination = mount.destination();
        format!("error mounting {source:?} to rootfs at {destination:?}: open {}", source.display())
    })
}

/// Opens what is at `path` in the source of a bind mount. Whoever can write to the source may have put links there: they
/// are followed inside the source only.
pub(crate) fn open_subpath(mount: &Mount, path: &Path) -> Result<OwnedFd> {
    if !is_bind(mount) {
        return Err(Failure::other(format!("the mount at {:?} has no subpath: it is no bind", mount.destination())));
    }
    let options = Options::parse(mount.options().as_deref().unwrap_or_default()).map_err(Failure::other)?;
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    let opened = super::open_host(source, OFlags::PATH | OFlags::DIRECTORY)
        .and_then(|root| rootfs::open_in_root(root.as_fd(), path, OFlags::PATH))
        .and_then(|found| clone_mount(found.as_fd(), options.bind == Some(true)));
    opened.or_fail(|| {
        let (destination, full) = (mount.destination(), source.join(path));
        format!("error mounting {full:?} to rootfs at {destination:?}: open {}", full.display())
    })
}

/// Puts the source of a bind, opened before, on a place in the (own, private) mount namespace, for another runtime to
/// find it there.
pub(crate) fn attach_source_on(source: BorrowedFd<'_>, place: &Path) -> Result<()> {
    let failed = || format!("attach {}", place.display());
    let change = Change { propagation: Some(Propagation::Slave), recursive: true, ..Change::default() };
    mount::set_attributes(source, change).or_fail(failed)?;
    let target = super::open_host(place, OFlags::PATH | OFlags::NOFOLLOW).or_fail(failed)?;
    attach(source, target.as_fd()).or_fail(failed)
}

fn open_source(mount: &Mount, options: &Options) -> io::Result<OwnedFd> {
    let source: PathBuf = mount.source().clone().ok_or(rustix::io::Errno::NOENT)?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.bind == Some(true) {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(rustix::fs::CWD, source, flags)?)
}

fn propagate(tree: BorrowedFd<'_>, options: &Options) -> std::result::Result<(), String> {
    let Some((propagation, recursive)) = options.propagation else { return Ok(()) };
    let change = Change { propagation: Some(propagation), recursive, ..Change::default() };
    mount::set_attributes(tree, change).map_err(text)
}

pub(super) fn mount_point(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> std::result::Result<OwnedFd, String> {
    rootfs::mount_point(root, path, kind)
        .map_err(|error| format!("create mountpoint for {} mount: {}", path.display(), text(error)))
}

/// proc and sysfs only go where no symlink had a say: other parts of the set-up rely on them.
fn ordinary_directory(root: BorrowedFd<'_>, path: &Path, kind: &str) -> std::result::Result<OwnedFd, String> {
    let open = || rootfs::open_without_symlinks(root, path, OFlags::PATH | OFlags::DIRECTORY);
    let opened = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            mount_point(root, path, Kind::Directory)?;
            open()
        }
        result => result,
    };
    opened.map_err(|error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
            format!("filesystem {kind:?} must be mounted on ordinary directory")
        }
        _ => text(error),
    })
}

/// Mounts over parts of /proc would fool the container and what trusts its /proc.
fn check_proc(path: &Path, target: BorrowedFd<'_>, tree: BorrowedFd<'_>) -> std::result::Result<(), String> {
    let is_proc = |fd| super::host_proc::is_proc(fd).map_err(text);
    let inside = is_proc(target)? || path.starts_with("/proc") && path != Path::new("/proc");
    if inside && path != Path::new("/proc") && !PROC_FILES.iter().any(|allowed| path == Path::new(allowed)) {
        return Err(format!("{path:?} cannot be mounted because it is inside /proc"));
    }
    if path == Path::new("/proc") && !is_proc(tree)? {
        return Err(format!("{path:?} cannot be mounted because it is not of type proc"));
    }
    Ok(())
}

/// Permissions of a directory that a tmpfs without `mode` will hide, in octal.
fn existing_mode(root: BorrowedFd<'_>, path: &Path) -> Option<String> {
    let directory = rootfs::open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY).ok()?;
    let stat = rustix::fs::fstat(directory).ok()?;
    Some(format!("{:o}", stat.st_mode & 0o7777))
}

/// A bind of `source` (a place already opened) onto `target`, with attributes.
pub(super) fn bind_fd(source: BorrowedFd<'_>, target: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    let tree = clone_mount(source, change.recursive)?;
    if change.set | change.clear != 0 || change.propagation.is_some() {
        mount::set_attributes(tree.as_fd(), change)?;
    }
    attach(tree.as_fd(), target)
}
