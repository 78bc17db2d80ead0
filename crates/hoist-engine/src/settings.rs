//! What an engine was told: resolved flags and configuration, all defaults applied.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use hoist_api::host_config::{LogConfig, Ulimit};

/// An OCI runtime registered with `--add-runtime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeBinary {
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Persistent state.
    pub root: PathBuf,
    /// State that dies with the boot: sockets of supervisors.
    pub run_dir: PathBuf,
    pub image: hoist_image::Config,
    pub network: hoist_network::Config,
    /// Group under which containers' cgroups are made, e.g. `/hoist`.
    pub cgroup_parent: String,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    pub default_runtime: String,
    pub runtimes: BTreeMap<String, RuntimeBinary>,
    pub labels: Vec<String>,
    pub log: LogConfig,
    /// `--live-restore=false`: containers are stopped when the engine is shut down in order.
    pub live_restore: bool,
    /// Docker's `--init`: containers get an init unless they say otherwise.
    pub init: bool,
    pub shm_size_bytes: i64,
    /// Addresses that `host-gateway` stands for.
    pub host_gateway: Option<IpAddr>,
    pub debug: bool,
}
