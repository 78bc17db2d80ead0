//! A container without a mount namespace of its own: what it mounts is mounted in the runtime's, below the bundle's root,
//! and goes with the container. Nothing of the host's own mounts changes, their propagation included.
//!
//! ```text
//! the bundle's root ── guard   the same directory once more, private: what is mounted on it spreads nowhere
//!                        └─ mark   an empty tmpfs; its source names the container's directory, so that it is found again
//!                             └─ tree   the root with what is mounted in it, private: the container's root
//! ```

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hoist_sys::mount::{self, Change, Propagation};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::mount::UnmountFlags;

use super::fault::{Fault, Result, Trying};
use crate::init::{self, RootSource};

/// What the sources of all marks begin with.
const MARK: &str = "hoist-runtime:";

/// Whether a container is one of these.
pub(super) fn are_wanted(spec: &Spec) -> bool {
    !has_namespace(spec, LinuxNamespaceType::Mount)
}

fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    listed.into_iter().flatten().any(|namespace| namespace.typ() == kind)
}

/// Refuses what only mounts of one's own allow, in runc's words where it has some.
pub(super) fn check(spec: &Spec) -> Result<()> {
    if !are_wanted(spec) {
        return Ok(());
    }
    let is_given = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| !paths.is_empty());
    let linux = spec.linux().as_ref();
    if linux.is_some_and(|linux| is_given(linux.masked_paths()) || is_given(linux.readonly_paths())) {
        return Err(Fault::new("unable to restrict sys entries without a private MNT namespace"));
    }
    if has_namespace(spec, LinuxNamespaceType::User) {
        return Err(Fault::new("a user namespace needs a mount namespace: its root may not mount in the runtime's"));
    }
    Ok(())
}

/// Puts the root in its place. `directory` is the container's own, to [`detach`] by.
pub(super) fn attach(rootfs: &Path, directory: &Path) -> Result<RootSource> {
    let failed = || format!("attach rootfs {}", rootfs.display());
    let place = open_directory(rootfs).trying(failed)?;
    check_place(rootfs, place.as_fd())?;
    let mark = init::empty_tmpfs(&mark_of(directory).trying(failed)?).trying(failed)?;
    let tree = init::clone_mount(place.as_fd(), true).trying(failed)?;
    make_private(tree.as_fd()).trying(failed)?;
    let guard = init::clone_mount(place.as_fd(), false).trying(failed)?;
    init::attach(guard.as_fd(), place.as_fd()).trying(failed)?;
    // On a shared mount a mount becomes shared itself.
    let attached = make_private(guard.as_fd())
        .and_then(|()| init::attach(mark.as_fd(), guard.as_fd()))
        .and_then(|()| init::attach(tree.as_fd(), mark.as_fd()));
    if attached.is_err() {
        // There may be no mark to find it by. Each time what lies on top goes, at last the guard.
        while unmount(guard.as_fd()).is_ok() {}
    }
    attached.trying(failed).map(|()| RootSource::Attached(tree))
}

/// Takes away what [`attach`] has mounted and all that was mounted there since. Nothing to do is fine.
pub(super) fn detach(directory: &Path) -> Result<()> {
    let failed = || format!("unmount the root of {}", directory.display());
    let mark = match mark_of(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        mark => mark.trying(failed)?,
    };
    let table = read_table()?;
    let Some(mark) = table.iter().find(|mount| mount.is_mark(&mark)) else { return Ok(()) };
    let guard = table.iter().find(|mount| mount.id == mark.parent && mount.place == mark.place).unwrap_or(mark);
    // One layer after the other: a path only leads to the topmost.
    loop {
        let table = read_table()?;
        if !table.iter().any(|mount| mount.id == guard.id && mount.place == guard.place) {
            return Ok(());
        }
        let top = open_directory(Path::new(&guard.place)).trying(failed)?;
        if !is_on(&table, mount_id(top.as_fd()).trying(failed)?, guard) {
            return Err(Fault::new(format!("{}: {} is covered by another mount", failed(), guard.place)));
        }
        unmount(top.as_fd()).trying(failed)?;
    }
}

/// The root of the host must not be covered, and one root serves one container.
fn check_place(rootfs: &Path, place: BorrowedFd<'_>) -> Result<()> {
    if rootfs.to_str().is_none() {
        return Err(Fault::new(format!(
            "rootfs {rootfs:?} is not UTF-8, which a container without a mount namespace needs"
        )));
    }
    let own = open_directory(Path::new("/")).trying(|| "open /")?;
    let is_own = || {
        let (own_stat, stat) = (rustix::fs::fstat(&own)?, rustix::fs::fstat(place)?);
        let is_same = (own_stat.st_dev, own_stat.st_ino) == (stat.st_dev, stat.st_ino);
        Ok::<_, std::io::Error>(is_same && mount_id(own.as_fd())? == mount_id(place)?)
    };
    if is_own().trying(|| format!("stat {}", rootfs.display()))? {
        return Err(Fault::new("a container with the runtime's own root needs a mount namespace"));
    }
    let in_use = |mount: &Mount| mount.is_any_mark() && Path::new(&mount.place) == rootfs;
    if read_table()?.iter().any(in_use) {
        let rootfs = rootfs.display();
        return Err(Fault::new(format!("rootfs {rootfs} is in use by another container without a mount namespace")));
    }
    Ok(())
}

fn open_directory(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Names a container's directory by what no other one has as long as it is there.
fn mark_of(directory: &Path) -> std::io::Result<String> {
    let found = fs::symlink_metadata(directory)?;
    Ok(format!("{MARK}{:x}:{}", found.dev(), found.ino()))
}

fn make_private(mount: BorrowedFd<'_>) -> std::io::Result<()> {
    let propagation = Some(Propagation::Private);
    mount::set_attributes(mount, Change { propagation, recursive: true, ..Change::default() })
}

/// Takes a mount, or what lies on top of it, away with all below. What of that was shared with the host's own mounts must
/// not be missed there.
fn unmount(mount: BorrowedFd<'_>) -> std::io::Result<()> {
    make_private(mount)?;
    let itself = format!("/proc/self/fd/{}", mount.as_raw_fd());
    Ok(rustix::mount::unmount(itself, UnmountFlags::DETACH)?)
}

fn mount_id(fd: BorrowedFd<'_>) -> std::io::Result<u64> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}

/// A line of proc_pid_mountinfo(5).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    parent: u64,
    place: String,
    kind: String,
    source: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let place = mount::unescape(fields.nth(2)?);
        let (kind, source) = filesystem.split_once(' ')?;
        let source = mount::unescape(source.split(' ').next()?);
        Some(Mount { id, parent, place, kind: kind.to_owned(), source })
    }

    fn is_any_mark(&self) -> bool {
        self.kind == "tmpfs" && self.source.starts_with(MARK)
    }

    fn is_mark(&self, mark: &str) -> bool {
        self.is_any_mark() && self.source == mark
    }
}

fn read_table() -> Result<Vec<Mount>> {
    let table = fs::read("/proc/self/mountinfo").trying(|| "read /proc/self/mountinfo")?;
    Ok(String::from_utf8_lossy(&table).lines().filter_map(Mount::parse).collect())
}

/// Whether the mount `id` is another one or lies on it in the same place.
fn is_on(table: &[Mount], id: u64, other: &Mount) -> bool {
    let mut at = id;
    // Each step leads to a mount that was there before, so there are no more steps than mounts.
    for _ in table {
        let Some(mount) = table.iter().find(|mount| mount.id == at) else { return false };
        if mount.id == other.id || mount.place != other.place {
            return mount.id == other.id;
        }
        at = mount.parent;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 254:0 /b/root /b/root rw,relatime - ext4 /dev/vda rw
41 40 0:28 / /b/root rw - tmpfs hoist-runtime:1a:7 rw
42 41 254:0 /b/root /b/root rw - ext4 /dev/vda rw
43 42 0:29 / /b/root/a\\040b rw master:3 propagate_from:2 - tmpfs hoist-runtime:\\040x rw
44 27 0:30 / /b rw - tmpfs none rw
";

    fn table() -> Vec<Mount> {
        TABLE.lines().filter_map(Mount::parse).collect()
    }

    #[test]
    fn a_mark_is_found_by_its_directory() {
        let table = table();
        let marks: Vec<u64> = table.iter().filter(|mount| mount.is_mark("hoist-runtime:1a:7")).map(|m| m.id).collect();
        assert_eq!((table.len(), marks), (6, vec![41]));
        assert_eq!((table[4].place.as_str(), table[4].source.as_str()), ("/b/root/a b", "hoist-runtime: x"));
        let directory = std::env::temp_dir().join(format!("hoist-mark-{}", std::process::id()));
        assert_eq!(mark_of(&directory).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        detach(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        assert!(mark_of(&directory).unwrap().starts_with(MARK));
        detach(&directory).unwrap();
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn only_what_lies_on_the_guard_in_its_place_is_taken_away() {
        let table = table();
        for (id, expected) in [(40, true), (41, true), (42, true), (43, false), (44, false), (27, false), (99, false)] {
            assert_eq!(is_on(&table, id, &table[1]), expected, "{id}");
        }
    }
}
