//! The one place where Docker's `Config` and `HostConfig` become an OCI runtime spec.

mod mounts;
mod namespaces;
mod process;
mod propagation;
pub(crate) mod resources;
mod security;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use hoist_api::host_config::HostConfig;
use hoist_network::Setup;
use hoist_runtime::defaults;
use hoist_runtime::launch::{ExternalRuntime, Launch, NetworkSetup, Rootfs, Stdio};
use oci_spec::runtime::Spec;

pub(crate) use process::{exec_process, set_console_size};

use crate::container::record::Record;
use crate::error::{Error, Result};
use crate::settings::{Runtime, RuntimeBinary, Settings};

/// Another container whose namespaces or files are shared, as far as lowering needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub id: String,
    pub name: String,
    /// On the default bridge.
    pub address: Option<Ipv4Addr>,
    pub env: Vec<String>,
    /// `80/tcp`
    pub exposed: Vec<String>,
    pub pid: i32,
    pub directory: PathBuf,
    pub run_dir: PathBuf,
    pub hostname: String,
    pub ipc_shareable: bool,
}

/// What lowering needs beside the record.
pub(crate) struct Surroundings<'a> {
    pub settings: &'a Settings,
    /// The container's directory below the root.
    pub directory: &'a Path,
    pub run_dir: &'a Path,
    /// Where the exit file goes.
    pub exit_directory: &'a Path,
    pub network: Option<Setup>,
    /// Compiled seccomp programs by profile.
    pub seccomp: &'a security::Programs,
    /// Finds a running container for `container:X` modes.
    pub peer: &'a dyn Fn(&str) -> Result<Peer>,
}

pub(crate) use security::Programs;

/// What dockerd says of the first device request for which there is no driver; here there is none for any.
fn no_device_driver(host: &HostConfig) -> Error {
    let request = host.resources.device_requests.iter().flatten().next().cloned().unwrap_or_default();
    let driver = request["Driver"].as_str().unwrap_or_default();
    if driver == "cdi" {
        let ids: Vec<&str> =
            request["DeviceIDs"].as_array().into_iter().flatten().filter_map(|id| id.as_str()).collect();
        return Error::internal(format!("CDI device injection failed: unresolvable CDI devices {}", ids.join(", ")));
    }
    let alternatives = request["Capabilities"].as_array().into_iter().flatten().map(|all| {
        let words: Vec<&str> = all.as_array().into_iter().flatten().filter_map(|word| word.as_str()).collect();
        format!("[{}]", words.join(" "))
    });
    let capabilities = alternatives.collect::<Vec<_>>().join(" ");
    Error::internal(format!("could not select device driver \"{driver}\" with capabilities: [{capabilities}]"))
}

/// Lowers a record to a launch.
pub(crate) fn launch(record: &Record, around: Surroundings<'_>) -> Result<Launch> {
    let version = hoist_runtime::cgroup::version();
    let host = &record.fixed.host_config;
    let mut spec = defaults::default_spec(version);
    if host.resources.device_requests.as_ref().is_some_and(|requests| !requests.is_empty()) {
        return Err(no_device_driver(host));
    }
    let links = crate::links::environment(record, around.peer)?;
    process::fill(&mut spec, record, around.directory, &links)?;
    namespaces::fill(&mut spec, record, around.peer)?;
    mounts::fill(&mut spec, record, &around)?;
    resources::fill(&mut spec, record, version)?;
    if host.privileged {
        defaults::make_privileged(&mut spec).map_err(Error::internal)?;
    }
    let seccomp_program = security::fill(&mut spec, record, around.seccomp)?;
    let parent = if host.resources.cgroup_parent.is_empty() {
        &around.settings.cgroup_parent
    } else {
        &host.resources.cgroup_parent
    };
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(Path::new("/").join(parent.trim_start_matches('/')).join(record.id())));
    }
    Ok(Launch {
        id: record.id().to_owned(),
        subpaths: mounts::subpaths(record),
        rootfs: rootfs(record, around.directory),
        seccomp_program,
        stdio: stdio(record),
        log: crate::logs::log_file(record, around.directory)?,
        network: around.network.map(|setup| NetworkSetup {
            host_batch: setup.host_batch,
            netns_fd_at: setup.netns_fd_at,
            netns_batch: setup.netns_batch,
        }),
        state_dir: around.exit_directory.to_owned(),
        run_dir: around.run_dir.to_owned(),
        init: host.init == Some(true),
        external_runtime: external(record, around.settings)?,
        spec,
    })
}

fn rootfs(record: &Record, directory: &Path) -> Rootfs {
    Rootfs::Overlay {
        lower: record.fixed.layers.clone(),
        upper: directory.join("upper"),
        work: directory.join("work"),
        volatile: record.fixed.host_config.auto_remove,
    }
}

fn stdio(record: &Record) -> Stdio {
    let (config, size) = (&record.fixed.config, record.fixed.host_config.console_size);
    let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    Stdio {
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        console_size: (clamp(size.0), clamp(size.1)),
    }
}

fn external(record: &Record, settings: &Settings) -> Result<Option<ExternalRuntime>> {
    let name = record.fixed.host_config.runtime.as_str();
    match settings.live.now().runtime(name) {
        Some(Runtime::Own) => Ok(None),
        Some(Runtime::Other(RuntimeBinary { path, args })) => Ok(Some(ExternalRuntime { path, args })),
        None => Err(unknown_runtime(name)),
    }
}

pub(crate) fn unknown_runtime(name: &str) -> Error {
    Error::invalid(format!("unknown or invalid runtime name: {name}"))
}

/// Hands out the linux section, which `default_spec` always has.
fn linux(spec: &mut Spec) -> Result<&mut oci_spec::runtime::Linux> {
    spec.linux_mut().as_mut().ok_or_else(|| Error::internal("the default spec lacks its linux section"))
}
