//! The spec's `cgroup` mount: on v2 the unified hierarchy, on v1 a tmpfs with the container's own group of each hierarchy
//! (bound from the host's mounts, or mounted anew in an own cgroup namespace).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hoist_sys::mount::{Change, attribute};
use hoist_sys::rootfs::Kind;
use rustix::fs::{Mode, OFlags};
use rustix::mount::FsOpenFlags;

use super::mounts::{bind_fd, finish, mount_point};
use super::options::Options;
use super::{attach, open_host};
use crate::failure::text;

/// Where the host has its hierarchies.
const HOST_MOUNT: &str = "/sys/fs/cgroup";

/// A v1 hierarchy, as the host has it mounted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    mount_point: PathBuf,
    /// What of the hierarchy the mount shows.
    root: PathBuf,
    /// `cpu,cpuacct` or `name=systemd`, as /proc/self/cgroup has it.
    controllers: String,
}

/// The error is only the reason.
pub(super) fn mount(path: &Path, kind: &str, options: &Options, root: BorrowedFd<'_>) -> Result<(), String> {
    let target = mount_point(root, path, Kind::Directory)?;
    let change = Change { recursive: false, ..options.top };
    if kind == "cgroup2" || is_unified() {
        return unified(target.as_fd(), change).map_err(text);
    }
    let tmpfs = tmpfs().map_err(text)?;
    attach(tmpfs.as_fd(), target.as_fd()).map_err(text)?;
    let own = std::fs::read_to_string("/proc/self/cgroup").map_err(text)?;
    for hierarchy in known_hierarchies().map_err(text)? {
        let place = hierarchy.mount_point.display().to_string();
        bind_own_group(hierarchy, &own, tmpfs.as_fd(), change)
            .map_err(|error| format!("cgroup hierarchy {place}: {}", text(error)))?;
    }
    if change.set & attribute::READ_ONLY != 0 {
        let change = Change { set: attribute::READ_ONLY, ..Change::default() };
        hoist_sys::mount::set_attributes(tmpfs.as_fd(), change).map_err(text)?;
    }
    Ok(())
}

/// The host's v1 hierarchies: read once, by the spawner for all containers.
pub(crate) fn known_hierarchies() -> io::Result<&'static [Hierarchy]> {
    static KNOWN: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    Ok(KNOWN.get_or_init(|| hierarchies(&table, &own)))
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

fn bind_own_group(hierarchy: &Hierarchy, own: &str, tmpfs: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    let Some(name) = hierarchy.mount_point.file_name() else { return Ok(()) };
    rustix::fs::mkdirat(tmpfs, name, Mode::from_raw_mode(0o755))?;
    let target = hoist_sys::rootfs::open_child(tmpfs, name, OFlags::PATH | OFlags::DIRECTORY)?;
    let group = own_group(own, &hierarchy.controllers).unwrap_or(Path::new("/"));
    let relative = group.strip_prefix(&hierarchy.root).unwrap_or(group);
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    let source = open_host(&hierarchy.mount_point.join(relative), OFlags::PATH | OFlags::DIRECTORY)?;
    bind_fd(source.as_fd(), target.as_fd(), change)?;
    // `cpu,cpuacct` is also to be found under each of its names.
    if hierarchy.controllers.contains(',') {
        for controller in hierarchy.controllers.split(',').filter(|controller| name != *controller) {
            rustix::fs::symlinkat(name, tmpfs, controller)?;
        }
    }
    Ok(())
}

/// The path of the own group in a hierarchy, from /proc/self/cgroup.
fn own_group<'a>(own: &'a str, controllers: &str) -> Option<&'a Path> {
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        (names == controllers).then(|| Path::new(path))
    })
}

/// v1 hierarchies of a mount table (proc_pid_mountinfo(5)) that the process has a group in; each once.
fn hierarchies(table: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let known = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':').map(|(names, _)| names));
    for line in table.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut filesystem = filesystem.split(' ');
        if filesystem.next() != Some("cgroup") {
            continue;
        }
        let super_options = filesystem.nth(1).unwrap_or("");
        let has_all = |names: &&str| names.split(',').all(|name| super_options.split(',').any(|option| option == name));
        let Some(controllers) = known().filter(|names| !names.is_empty()).find(has_all) else { continue };
        let mut fields = mount.split(' ').skip(3);
        let (Some(root), Some(mount_point)) = (fields.next(), fields.next()) else { continue };
        if found.iter().all(|hierarchy| hierarchy.controllers != controllers) {
            found.push(Hierarchy {
                mount_point: PathBuf::from(mount_point),
                root: PathBuf::from(root),
                controllers: controllers.to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:32 / /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
";
    const OWN: &str = "9:name=systemd:/x\n4:memory:/docker/abc/y\n1:cpu,cpuacct:/z\n0::/\n";

    #[test]
    fn each_hierarchy_is_found_once_with_its_names() {
        let found = hierarchies(TABLE, OWN);
        let names: Vec<_> = found.iter().map(|hierarchy| hierarchy.controllers.as_str()).collect();
        assert_eq!(names, ["cpu,cpuacct", "memory", "name=systemd"]);
        assert_eq!(found[1].root, Path::new("/docker/abc"));
        assert_eq!(own_group(OWN, "memory"), Some(Path::new("/docker/abc/y")));
    }
}
