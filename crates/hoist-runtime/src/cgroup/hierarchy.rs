//! Which cgroup hierarchies are mounted where, from `/proc/self/mountinfo` (proc(5)). Probed once in a process; knows
//! nothing of groups.

use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

/// One mounted version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount_point: PathBuf,
    /// Controllers bound to it (`cpu`, `cpuacct`…), or one `name=…` for a hierarchy without any.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// What is mounted on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// The version 2 mount, when version 2 is what controls containers.
    pub(super) unified: Option<PathBuf>,
    /// The version 2 mount that is there besides, when version 1 is.
    pub(super) beside: Option<PathBuf>,
    pub(super) legacy: Vec<Hierarchy>,
}

pub(super) fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()))
}

/// Version 2 counts only if it is mounted at the usual place, or if no version 1 controller is mounted at all: in a
/// hybrid set-up it has no controllers.
pub(super) fn parse(mountinfo: &str) -> Machine {
    const USUAL: &str = "/sys/fs/cgroup";
    let mut found = Machine::default();
    let mut at_usual_place = None;
    for line in mountinfo.lines() {
        let Some(mount) = parse_line(line) else { continue };
        // The last mount at a place is the one that is seen.
        if mount.point == Path::new(USUAL) {
            at_usual_place = Some(mount.kind.to_owned());
        }
        match mount.kind {
            "cgroup2" if found.unified.is_none() || mount.point == Path::new(USUAL) => {
                found.unified = Some(mount.point);
            }
            "cgroup" => add_legacy(&mut found.legacy, mount),
            _ => {}
        }
    }
    let has_controllers = found.legacy.iter().any(|h| h.controllers.iter().any(|c| !c.starts_with("name=")));
    if at_usual_place.as_deref() != Some("cgroup2") && has_controllers {
        found.beside = found.unified.take();
    }
    found
}

/// The same hierarchy may be mounted often (chroots bind it): the first below `/sys/fs/cgroup` is taken, else the first.
fn add_legacy(legacy: &mut Vec<Hierarchy>, mount: Mount<'_>) {
    let controllers: Vec<String> = mount
        .super_options
        .split(',')
        .filter(|option| option.starts_with("name=") || KNOWN_CONTROLLERS.contains(option))
        .map(str::to_owned)
        .collect();
    if controllers.is_empty() {
        return;
    }
    let usual = mount.point.starts_with("/sys/fs/cgroup");
    match legacy.iter_mut().find(|h| h.controllers == controllers) {
        Some(earlier) if usual && !earlier.mount_point.starts_with("/sys/fs/cgroup") => {
            earlier.mount_point = mount.point;
        }
        Some(_) => {}
        None => legacy.push(Hierarchy { mount_point: mount.point, controllers }),
    }
}

/// Controllers of version 1 (cgroups(7)); other words among the mount options are flags such as `xattr` or `clone_children`.
const KNOWN_CONTROLLERS: [&str; 15] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
    "debug",
];

struct Mount<'a> {
    point: PathBuf,
    kind: &'a str,
    super_options: &'a str,
}

fn parse_line(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let point = left.split(' ').nth(4)?;
    let mut right = right.split(' ');
    let kind = right.next()?;
    let super_options = right.nth(1)?;
    Some(Mount { point: PathBuf::from(hoist_sys::mount::unescape(point)), kind, super_options })
}

/// The part of a group's path below the mount point, or why it cannot be one: a path must name at least one group and
/// must not climb.
pub(super) fn relative(path: &Path) -> Result<PathBuf, String> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(format!("invalid cgroup path {path:?}")),
        }
    }
    if relative.as_os_str().is_empty() {
        return Err(format!("invalid cgroup path {path:?}: it names the root"));
    }
    Ok(relative)
}
