//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

#![expect(clippy::expect_used, reason = "what fails here is to be found")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hoist_api::container::{CreateBody, MountPoint};
use hoist_api::decode;
use hoist_api::host_config::LogConfig;
use hoist_api::image::ContainerConfig;
use hoist_db::Db;
use hoist_volume::Volumes;

use crate::container::record::{Fixed, Record, State};
use crate::error::{Error, Result};
use crate::stream::DetachKeys;
use crate::{Settings, create, logs, lower, merged};

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[
    ("log", log),
    ("account_files", account_files),
    ("lower", lower),
    ("changes", changes),
    ("detach_keys", detach_keys),
];

/// A container's log, read and searched from its end.
pub fn log(bytes: &[u8]) {
    logs::reader::fuzzing::read(bytes).expect("a scratch file");
}

/// passwd and group of an image, and who is meant: the three parts end at NUL bytes.
pub fn account_files(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |&byte| byte == 0);
    let who = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let home = tempfile::tempdir().expect("a scratch directory");
    let (upper, layer) = (home.path().join("upper"), home.path().join("layer"));
    std::fs::create_dir_all(layer.join("etc")).expect("a scratch directory");
    std::fs::create_dir(&upper).expect("a scratch directory");
    for (name, part) in ["etc/passwd", "etc/group"].into_iter().zip(parts) {
        std::fs::write(layer.join(name), part).expect("a scratch file");
    }
    let layers = [layer];
    let mut ids = Vec::new();
    for (user, groups) in [(who.as_str(), vec![]), ("", vec![who.clone()])] {
        if let Ok(account) = merged::user(&layers, &upper, user, &groups) {
            ids.extend([account.uid, account.gid].into_iter().chain(account.additional_gids));
        }
    }
    assert!(ids.iter().all(|id| i32::try_from(*id).is_ok()), "an id that means something else to the kernel: {ids:?}");
}

/// A create request, checked and lowered to what the runtime gets.
pub fn lower(bytes: &[u8]) {
    let Ok(body) = decode::from_slice::<CreateBody>(bytes) else { return };
    let _ = VOLUMES.with(|(volumes, _)| try_lower(body, volumes));
}

fn try_lower(body: CreateBody, volumes: &Volumes) -> Result<()> {
    let CreateBody { mut config, mut host_config, .. } = body;
    let settings = settings();
    let version = hoist_runtime::cgroup::version();
    create::merge::with_image(&mut config, &ContainerConfig::default());
    create::merge::host_defaults(&mut host_config, settings, version);
    create::merge::discard_unsupported(&mut host_config, version);
    create::validate::request(&config, &host_config, settings)?;
    let ports = crate::networks::port_requests(&config, &host_config)?;
    assert!(ports.iter().all(|port| port.container_port != 0 && port.host_ports.0 <= port.host_ports.1), "{ports:?}");
    // Mounts that would be made on this machine are another test's business.
    host_config.binds = None;
    host_config.mounts = None;
    let resolved = create::mounts::resolve("fuzz", &config, &host_config, volumes, &|_| Ok(Vec::new()))?;
    let _ = volumes.release("fuzz", true);
    let points: Vec<&MountPoint> = resolved.mounts.iter().map(|mount| &mount.point).collect();
    assert!(points.iter().all(|point| is_clean(&point.destination)), "{points:?}");
    let (path, args) = create::command(&config)?;
    let fixed = Fixed {
        id: "0123456789abcdef".repeat(4),
        created_ns: 0,
        image_id: String::new(),
        endpoints: std::collections::BTreeMap::new(),
        path,
        args,
        mounts: resolved.mounts,
        layers: Vec::new(),
        platform: "linux/amd64".to_owned(),
        image_size_bytes: 0,
        config,
        host_config,
    };
    let record = Record { name: "fuzz".to_owned(), fixed: Arc::new(fixed), state: State::default() };
    let around = lower::Surroundings {
        settings,
        directory: Path::new("/nonexistent"),
        run_dir: Path::new("/nonexistent"),
        exit_directory: Path::new("/nonexistent"),
        network: None,
        seccomp: &lower::Programs::default(),
        peer: &|name| Err(Error::not_found(name.to_owned())),
    };
    let launch = lower::launch(&record, around)?;
    serde_json::to_vec(&launch).expect("a launch can be sent");
    Ok(())
}

fn is_clean(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

thread_local! {
    // For all inputs; of a thread, and not for ever, so that their directory goes with them.
    static VOLUMES: (Volumes, tempfile::TempDir) = {
        let home = tempfile::tempdir().expect("a scratch directory");
        (Volumes::open(home.path(), Db::in_memory().expect("a database")).expect("volumes"), home)
    };
}

fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings {
        root: PathBuf::from("/nonexistent"),
        run_dir: PathBuf::from("/nonexistent"),
        network: hoist_network::Config {
            bridge: "fuzz0".to_owned(),
            bip: None,
            fixed_cidr: None,
            default_address_pools: Vec::new(),
            mtu: 0,
            icc: true,
            default_publish_ip: None,
            without_proxy: false,
        },
        cgroup_parent: "/fuzz".to_owned(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        default_ulimits: std::collections::BTreeMap::new(),
        log: LogConfig { r#type: "json-file".to_owned(), config: std::collections::BTreeMap::new() },
        init: false,
        shm_size_bytes: 64 << 20,
        host_gateway: None,
        live: crate::Reloadable {
            default_runtime: "runc".to_owned(),
            live_restore: true,
            ..crate::Reloadable::default()
        }
        .into(),
    })
}

/// Dockerfile lines of `import --change`.
pub fn changes(bytes: &[u8]) {
    let lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    let _ = crate::apply_changes(&mut ContainerConfig::default(), &lines);
}

/// A detach sequence and what is typed: the first line and the rest. Nothing typed is lost or doubled.
pub fn detach_keys(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let Ok(mut keys) = DetachKeys::parse(&String::from_utf8_lossy(&bytes[..end])) else { return };
    let typed = bytes.get(end + 1..).unwrap_or_default();
    let mut passed = Vec::new();
    for part in typed.chunks(3) {
        let (out, detached) = keys.filter(part);
        passed.extend_from_slice(&out);
        if detached {
            break;
        }
    }
    assert!(typed.starts_with(&passed), "{typed:?} became {passed:?}");
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
