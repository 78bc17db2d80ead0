//! What an engine was told: resolved flags and configuration, all defaults applied.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use hoist_api::host_config::{LogConfig, Ulimit};

/// The program of another OCI runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeBinary {
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// Names of the runtime that is built in: our own, and those that scripts know from dockerd.
pub const OWN_RUNTIMES: [&str; 3] = ["runc", "hoist", "io.containerd.runc.v2"];

/// Runtimes that need not be registered where they are installed.
const USUAL_RUNTIMES: [&str; 1] = ["crun"];

/// What makes containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    Own,
    Other(RuntimeBinary),
}

/// Where a program is: an absolute path as it is, a bare name by `$PATH`. `None` if there is no such file.
pub fn find_program(program: &Path) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&directories).map(|directory| directory.join(program));
    places.filter(|place| place.is_absolute()).find(|place| place.is_file())
}

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Persistent state.
    pub root: PathBuf,
    /// State that dies with the boot: sockets of supervisors.
    pub run_dir: PathBuf,
    pub network: hoist_network::Config,
    /// Group under which containers' cgroups are made, e.g. `/hoist`.
    pub cgroup_parent: String,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    pub log: LogConfig,
    /// Docker's `--init`: containers get an init unless they say otherwise.
    pub init: bool,
    pub shm_size_bytes: i64,
    /// Addresses that `host-gateway` stands for.
    pub host_gateway: Option<IpAddr>,
    pub live: Live,
}

/// The settings that a reload of the configuration may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloadable {
    pub debug: bool,
    pub labels: Vec<String>,
    /// `--live-restore=false`: containers are stopped when the engine is shut down in order.
    pub live_restore: bool,
    pub default_runtime: String,
    pub runtimes: BTreeMap<String, RuntimeBinary>,
    /// How long stopping all containers may take at the end; negative: as long as it takes.
    pub shutdown_timeout_s: i64,
    /// What images may take of the disk; none: as much as there is.
    pub max_disk: Option<MaxDisk>,
    pub image: hoist_image::Config,
}

impl Reloadable {
    /// The runtime that `--runtime NAME` asks for: a registered one, one that is built in, a usual one that is installed, or
    /// the program at an absolute path.
    pub fn runtime(&self, name: &str) -> Option<Runtime> {
        if let Some(registered) = self.runtimes.get(name) {
            return Some(Runtime::Other(registered.clone()));
        }
        if OWN_RUNTIMES.contains(&name) {
            return Some(Runtime::Own);
        }
        let program = Path::new(name);
        let path =
            if USUAL_RUNTIMES.contains(&name) || program.is_absolute() { find_program(program)? } else { return None };
        Some(Runtime::Other(RuntimeBinary { path, args: Vec::new() }))
    }
}

/// A share of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxDisk {
    Bytes(u64),
    /// Of the size of the file system that the root is on.
    Percent(u8),
}

impl std::fmt::Display for MaxDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MaxDisk::Bytes(bytes) => write!(f, "{bytes}"),
            MaxDisk::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The reloadable settings as they are now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Live(Arc<RwLock<Arc<Reloadable>>>);

impl From<Reloadable> for Live {
    fn from(settings: Reloadable) -> Live {
        Live(Arc::new(RwLock::new(Arc::new(settings))))
    }
}

impl Live {
    pub fn now(&self) -> Arc<Reloadable> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, settings: Arc<Reloadable>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_registered_or_built_in_or_a_program() {
        let registered = RuntimeBinary { path: "/no/such".into(), args: vec!["--flag".to_owned()] };
        let runtimes = BTreeMap::from([("other".to_owned(), registered.clone())]);
        let settings = Reloadable { runtimes, ..Reloadable::default() };
        assert_eq!(settings.runtime("other"), Some(Runtime::Other(registered)));
        assert_eq!(settings.runtime("runc"), Some(Runtime::Own));
        let shell = find_program(Path::new("sh")).unwrap();
        let by_path = Runtime::Other(RuntimeBinary { path: shell.clone(), args: Vec::new() });
        assert_eq!(settings.runtime(shell.to_str().unwrap()), Some(by_path));
        for unknown in ["", "sh", "/", "/no/such", "../sh"] {
            assert_eq!(settings.runtime(unknown), None, "{unknown}");
        }
    }
}
