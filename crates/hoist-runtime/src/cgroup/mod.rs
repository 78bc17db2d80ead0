//! Control groups, version 1 (and hybrid) and version 2, behind one trait. This file owns the interface and the choice of
//! version; `v1` and `v2` make, enter, freeze and remove groups, `limits` writes resource files, `devices` decides what a
//! list of device rules amounts to, `stats` reads figures. Docker's own checks (least memory and the like) are not here.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

mod device_program;
mod devices;
mod files;
mod hierarchy;
mod limits;
mod stats;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub use hierarchy::Hierarchy;

/// Which hierarchy this machine uses, probed once (`cgroups(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    V1,
    V2,
}

/// One container's control group in all hierarchies. `path` is relative to each hierarchy's root, e.g. `/hoist/<id>`.
pub trait Cgroup: Send + Sync + std::fmt::Debug {
    /// Makes the group (parents too) and applies limits and device rules. What it made is removed when it fails.
    fn create(&self, resources: &LinuxResources) -> io::Result<()>;
    /// Moves the calling single-threaded process in (v1: own tid to `tasks`, see runtime-floor; v2: `cgroup.procs`).
    fn enter(&self) -> io::Result<()>;
    /// Prepares for processes that [`Cgroup::enter`] one after the other: opens now, once, what each of them would (v1). It
    /// stays open as long as `self`.
    fn expect_entries(&self) -> io::Result<()>;
    /// An fd of the group directory for `CLONE_INTO_CGROUP`; `None` on v1.
    fn clone_into_fd(&self) -> io::Result<Option<std::os::fd::OwnedFd>>;
    /// Changes limits of a live group (`docker update`). Device rules change only if the list is not empty.
    fn update(&self, resources: &LinuxResources) -> io::Result<()>;
    fn freeze(&self, frozen: bool) -> io::Result<()>;
    /// Whether it is frozen by [`Cgroup::freeze`]; a missing group is not.
    fn is_frozen(&self) -> io::Result<bool>;
    /// Pids of all processes in the group, groups below it included, as seen from the caller's pid namespace.
    fn pids(&self) -> io::Result<Vec<i32>>;
    /// How often the OOM killer struck in it.
    fn oom_kills(&self) -> io::Result<u64>;
    /// Usage figures.
    fn stats(&self) -> io::Result<Stats>;
    /// Sends SIGKILL to everything in the group, frozen or not (v2: `cgroup.kill`).
    fn kill(&self) -> io::Result<()>;
    /// Kills what is left and removes the group; retries while the kernel says EBUSY, bounded. Missing is fine.
    fn remove(&self) -> io::Result<()>;
    /// (controllers, directory) of the group in each hierarchy; version 2 has one entry with an empty name.
    fn paths(&self) -> Vec<(String, std::path::PathBuf)>;
}

/// Raw figures for `docker stats`; zero where the kernel has none. A limit that is not set is `u64::MAX` (memory) or
/// zero (pids).
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub cpu_total_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    pub percpu_ns: Vec<u64>,
    pub throttled_periods: u64,
    pub periods: u64,
    pub throttled_ns: u64,
    pub memory_usage_bytes: u64,
    pub memory_max_usage_bytes: u64,
    pub memory_limit_bytes: u64,
    pub memory_failures: u64,
    pub memory_stat: std::collections::BTreeMap<String, u64>,
    pub pids_current: u64,
    pub pids_limit: u64,
    /// (major, minor, operation, bytes)
    pub io_bytes: Vec<(u64, u64, String, u64)>,
}

/// What this machine uses; a machine without any control groups counts as version 1, where making a group then fails.
pub fn version() -> Version {
    if hierarchy::machine().unified.is_some() { Version::V2 } else { Version::V1 }
}

/// The version 1 hierarchies of this machine (none on version 2), for mounting them into a container.
pub fn hierarchies() -> &'static [Hierarchy] {
    if version() == Version::V1 { &hierarchy::machine().legacy } else { &[] }
}

/// Where version 2 is mounted, if this machine uses it.
pub fn unified_mount() -> Option<&'static Path> {
    hierarchy::machine().unified.as_deref()
}

/// The group `path` (relative) in this machine's hierarchies.
pub fn at(path: &Path) -> Box<dyn Cgroup> {
    let machine = hierarchy::machine();
    match &machine.unified {
        Some(mount) => Box::new(v2::Unified::new(mount, path)),
        None => Box::new(v1::Legacy::new(&machine.legacy, machine.beside.as_deref(), path)),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
/// What the rules about devices come to on either version, for the crate's fuzzing entry points.
pub(crate) fn compile_rules(resources: &LinuxResources) {
    let Ok(policy) = devices::Policy::of_container(resources.devices().as_deref().unwrap_or_default()) else { return };
    let _ = (device_program::compile(&policy), policy.allows_everything());
    for exception in &policy.exceptions {
        let _ = (devices::v1_rule(exception), policy.missing_from(exception));
    }
}

#[cfg(any(test, feature = "fuzzing"))]
/// The kernel's list of a group's devices, likewise.
pub(crate) fn read_list(list: &str) {
    let _ = device_program::compile(&devices::Policy::of_v1_list(list));
}

/// Controllers that a container can be limited by on this machine, for `docker info` and its warnings.
pub fn controllers() -> &'static [String] {
    static CONTROLLERS: OnceLock<Vec<String>> = OnceLock::new();
    CONTROLLERS.get_or_init(|| match unified_mount() {
        Some(mount) => std::fs::read_to_string(mount.join("cgroup.controllers"))
            .map(|text| text.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        None => hierarchy::machine().legacy.iter().flat_map(|h| h.controllers.iter().cloned()).collect(),
    })
}
