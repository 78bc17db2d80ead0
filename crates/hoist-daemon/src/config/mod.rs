//! Flags of `hoist engine` and of dockerd, and `daemon.json`, resolved to one [`Config`]: `flags` is the command line,
//! `source` says where a setting comes from, `values` reads those that are more than a text.

mod flags;
pub(crate) mod pid_file;
mod source;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use hoist_engine::{Reloadable, Settings};

pub(crate) use flags::Dialect;
use source::Source;
use values::{
    addresses, insecure_registries, labels, log, max_disk, mirrors, network, parse, runtimes, shm_size, ulimits,
};

/// Everything an engine process was told.
#[derive(Debug)]
pub(crate) struct Config {
    pub settings: Settings,
    /// `unix:///path`, `tcp://ip:port`, `fd://`
    pub hosts: Vec<String>,
    pub group: Option<String>,
    pub pid_file: Option<PathBuf>,
    pub log_level: String,
    pub raw_logs: bool,
    /// Only to be checked.
    pub validate: bool,
    /// Started by a client that found no engine.
    pub autostarted: bool,
}

/// Why there is no configuration.
pub(crate) enum Stop {
    /// Help or a usage error, already printed.
    Shown(ExitCode),
    Bad(String),
}

const SIGNATURE_POLICY: &str = "/etc/hoist/policy.json";

/// Reads flags and file.
pub(crate) fn read(args: Vec<OsString>, dialect: Dialect) -> Result<Config, Stop> {
    let matches = flags::command(dialect).try_get_matches_from(args).map_err(|e| {
        _ = e.print();
        Stop::Shown(ExitCode::from(if e.use_stderr() { 125 } else { 0 }))
    })?;
    let source = Source { file: source::read_file(&matches, dialect).map_err(Stop::Bad)?, matches };
    resolve(&source, dialect).map_err(Stop::Bad)
}

fn resolve(source: &Source, dialect: Dialect) -> Result<Config, String> {
    source::check_file_keys(source, dialect)?;
    refuse_other_values(source)?;
    let (root, run_dir) = match dialect {
        Dialect::Hoist => ("/var/lib/hoist", "/run/hoist"),
        Dialect::Dockerd => ("/var/lib/docker", "/var/run/docker"),
    };
    let run_dir = PathBuf::from(source.text("run-dir")?.unwrap_or_else(|| run_dir.to_owned()));
    let debug = source.flag("debug")?;
    let settings = Settings {
        root: PathBuf::from(source.text("root")?.unwrap_or_else(|| root.to_owned())),
        run_dir: run_dir.clone(),
        network: network(source, dialect)?,
        cgroup_parent: source.text("cgroup-parent")?.unwrap_or_else(|| "/hoist".to_owned()),
        dns: addresses(source, "dns")?,
        dns_search: source.texts("dns-search")?,
        dns_options: source.texts("dns-opt")?,
        default_ulimits: ulimits(source)?,
        log: log(source)?,
        init: source.flag("init")?,
        shm_size_bytes: shm_size(source)?,
        host_gateway: source.text("host-gateway-ip")?.map(|ip| parse(&ip, "host-gateway-ip")).transpose()?,
        live: reloadable(source, debug)?.into(),
    };
    Ok(Config {
        hosts: hosts(source, dialect, &run_dir)?,
        group: source.text("group")?.or_else(|| (dialect == Dialect::Dockerd).then(|| "docker".to_owned())),
        pid_file: source.text("pidfile")?.map(PathBuf::from),
        log_level: log_level(source, debug)?,
        raw_logs: source.flag("raw-logs")?,
        validate: source.flag("validate")?,
        autostarted: source.flag("autostarted")?,
        settings,
    })
}

/// What SIGHUP may change.
fn reloadable(source: &Source, debug: bool) -> Result<Reloadable, String> {
    let positive = |flag: &str| -> Result<Option<u32>, String> {
        let Some(text) = source.text(flag)? else { return Ok(None) };
        match text.parse::<i64>() {
            // Zero is Docker's way to say that the default is meant.
            Ok(0) => Ok(None),
            Ok(number) if number < 0 => Err(format!("invalid {}: {number}", flag.replace('-', " "))),
            Ok(number) => Ok(u32::try_from(number).ok()),
            Err(_) => Err(format!("invalid value \"{text}\" for --{flag}")),
        }
    };
    let timeout = source.text("shutdown-timeout")?.map(|text| parse(&text, "shutdown-timeout")).transpose()?;
    let reloadable = Reloadable {
        debug,
        labels: labels(source)?,
        live_restore: source.flag("live-restore")?,
        default_runtime: source.text("default-runtime")?.unwrap_or_else(|| "runc".to_owned()),
        runtimes: runtimes(source)?,
        shutdown_timeout_s: timeout.unwrap_or(15),
        max_disk: max_disk(source)?,
        image: hoist_image::Config {
            registry_mirrors: mirrors(source)?,
            insecure_registries: insecure_registries(source)?,
            search_index: source.text("search-index")?.unwrap_or_default(),
            max_concurrent_downloads: positive("max-concurrent-downloads")?.map(|n| n as usize),
            registry_config_dir: source.text("registry-config-dir")?.map(Into::into),
            max_download_attempts: positive("max-download-attempts")?,
            signature_policy: signature_policy(source)?,
            max_concurrent_uploads: positive("max-concurrent-uploads")?.map(|n| n as usize),
        },
    };
    if reloadable.runtime(&reloadable.default_runtime).is_some() {
        Ok(reloadable)
    } else {
        Err(format!("specified default runtime '{}' does not exist", reloadable.default_runtime))
    }
}

/// The policy that is named, or else the machine's, if it has one.
fn signature_policy(source: &Source) -> Result<Option<Arc<hoist_image::Policy>>, String> {
    let path = match source.text("signature-policy")? {
        Some(path) => PathBuf::from(path),
        None if Path::new(SIGNATURE_POLICY).exists() => PathBuf::from(SIGNATURE_POLICY),
        None => return Ok(None),
    };
    hoist_image::Policy::read(&path).map(|policy| Some(Arc::new(policy)))
}

fn hosts(source: &Source, dialect: Dialect, run_dir: &Path) -> Result<Vec<String>, String> {
    let mut hosts = source.texts("host")?;
    if hosts.is_empty() {
        hosts.push(match dialect {
            Dialect::Hoist => format!("unix://{}/hoist.sock", run_dir.display()),
            Dialect::Dockerd => "unix:///var/run/docker.sock".to_owned(),
        });
    }
    if source.flag("docker-socket")? {
        hosts.push("unix:///var/run/docker.sock".to_owned());
    }
    Ok(hosts)
}

fn log_level(source: &Source, debug: bool) -> Result<String, String> {
    let level = source.text("log-level")?.unwrap_or_else(|| if debug { "debug" } else { "info" }.to_owned());
    match level.as_str() {
        "debug" | "info" | "warn" | "error" | "trace" => Ok(level),
        "fatal" | "panic" => Ok("error".to_owned()),
        _ => Err(format!("invalid logging level: {level}")),
    }
}

/// Docker's flags that only have one value here.
fn refuse_other_values(source: &Source) -> Result<(), String> {
    for flag in ["iptables", "ip6tables", "ip-forward", "ip-masq"] {
        if !source.flag(flag)? {
            return Err(format!("--{flag}=false is not supported by this engine"));
        }
    }
    if let Some(driver) = source.text("storage-driver")?
        && driver != "overlay2"
    {
        return Err(format!("--storage-driver={driver} is not supported by this engine: it has overlay2 only"));
    }
    for refused in flags::REFUSED {
        for value in source.given(refused.flag)? {
            let says_nothing = refused.is_switch() && value == "false";
            if !says_nothing && !refused.harmless.contains(&value.as_str()) {
                return Err(format!("--{}={value} is not supported by this engine", refused.flag));
            }
        }
    }
    Ok(())
}
