//! Control groups, version 1 (and hybrid) and version 2, behind one trait.

use std::io;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

/// Which hierarchy this machine uses, probed once (`cgroups(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version { V1, V2 }

/// One container's control group in all hierarchies. `path` is relative to each hierarchy's root, e.g. `/hoist/<id>`.
pub trait Cgroup: Send + Sync + std::fmt::Debug {
    /// Makes the group (parents too) and applies limits and device rules.
    fn create(&self, resources: &LinuxResources) -> io::Result<()>;
    /// Moves the calling single-threaded process in (v1: own tid to `tasks`, see runtime-floor; v2: `cgroup.procs`).
    fn enter(&self) -> io::Result<()>;
    /// An fd of the group directory for `CLONE_INTO_CGROUP`; `None` on v1.
    fn clone_into_fd(&self) -> io::Result<Option<std::os::fd::OwnedFd>>;
    /// Changes limits of a live group (`docker update`).
    fn update(&self, resources: &LinuxResources) -> io::Result<()>;
    fn freeze(&self, frozen: bool) -> io::Result<()>;
    /// Pids of all processes in the group, as seen from the caller's pid namespace.
    fn pids(&self) -> io::Result<Vec<i32>>;
    /// How often the OOM killer struck in it.
    fn oom_kills(&self) -> io::Result<u64>;
    /// Usage figures.
    fn stats(&self) -> io::Result<Stats>;
    /// Kills what is left and removes the group; retries while the kernel says EBUSY, bounded. Missing is fine.
    fn remove(&self) -> io::Result<()>;
}

/// Raw figures for `docker stats`; zero where the kernel has none.
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

pub fn version() -> Version { todo!() }

/// The group `path` (relative) in this machine's hierarchies.
pub fn at(path: &Path) -> Box<dyn Cgroup> { let _ = path; todo!() }
