//! `docker version` and `docker info`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hoist_api::system::{API_VERSION, Component, Info, MIN_API_VERSION, Platform, Version};
use hoist_api::time::{now_ns, rfc3339_nano};
use hoist_runtime::cgroup;
use serde_json::{Value, json};

use crate::container::record::Status;
use crate::containers::Containers;
use crate::context::Context;
use crate::images::Images;
use crate::settings::Reloadable;

/// The handle on facts about the engine and its machine. Clones share it.
#[derive(Clone, Debug)]
pub struct System {
    context: Arc<Context>,
    containers: Containers,
    /// Stable over restarts: kept in the root.
    id: String,
}

impl System {
    pub(crate) fn new(containers: Containers, id: String) -> System {
        System { context: containers.context().clone(), containers, id }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub fn version(&self) -> Version {
        let machine = Machine::read();
        let details = BTreeMap::from([
            ("ApiVersion".to_owned(), API_VERSION.to_owned()),
            ("Arch".to_owned(), go_architecture().to_owned()),
            ("BuildTime".to_owned(), build_time()),
            ("Experimental".to_owned(), "false".to_owned()),
            ("GitCommit".to_owned(), git_commit().to_owned()),
            ("GoVersion".to_owned(), String::new()),
            ("KernelVersion".to_owned(), machine.kernel.clone()),
            ("MinAPIVersion".to_owned(), MIN_API_VERSION.to_owned()),
            ("Os".to_owned(), "linux".to_owned()),
        ]);
        Version {
            platform: Platform { name: format!("Hoist {}", env!("CARGO_PKG_VERSION")) },
            components: vec![Component { name: "Engine".to_owned(), version: server_version().to_owned(), details }],
            version: server_version().to_owned(),
            api_version: API_VERSION.to_owned(),
            min_api_version: MIN_API_VERSION.to_owned(),
            git_commit: git_commit().to_owned(),
            go_version: String::new(),
            os: "linux".to_owned(),
            arch: go_architecture().to_owned(),
            kernel_version: machine.kernel,
            experimental: false,
            build_time: build_time(),
        }
    }

    /// Puts reloaded settings in force and tells it as an event, with the attributes that Docker's has.
    pub fn reload(&self, settings: Reloadable) {
        let json = |value: &Value| value.to_string();
        let image = &settings.image;
        let number = |value: Option<u64>, default: u64| value.unwrap_or(default).to_string();
        let attributes = [
            ("debug", settings.debug.to_string()),
            ("default-ipc-mode", "private".to_owned()),
            ("default-runtime", settings.default_runtime.clone()),
            ("default-shm-size", self.context.settings.shm_size_bytes.to_string()),
            ("insecure-registries", json(&json!(image.insecure_registries))),
            ("labels", json(&json!(settings.labels))),
            ("live-restore", settings.live_restore.to_string()),
            ("max-disk", settings.max_disk.map(|max| max.to_string()).unwrap_or_default()),
            ("max-concurrent-downloads", number(image.max_concurrent_downloads.map(|n| n as u64), 3)),
            ("max-concurrent-uploads", number(image.max_concurrent_uploads.map(|n| n as u64), 5)),
            ("max-download-attempts", number(image.max_download_attempts.map(u64::from), 5)),
            ("name", Machine::read().name),
            ("registry-mirrors", json(&json!(image.registry_mirrors))),
            ("runtimes", json(&runtimes(&settings))),
            ("shutdown-timeout", settings.shutdown_timeout_s.to_string()),
        ];
        self.context.images.reconfigure(image.clone());
        self.context.settings.live.replace(Arc::new(settings));
        let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.context.events.emit("daemon", "reload", &self.id, attributes);
        Images::new(self.containers.clone()).settle_soon();
    }

    pub fn info(&self) -> Info {
        let machine = Machine::read();
        let settings = &self.context.settings;
        let live = settings.live.now();
        let records = self.containers.records();
        let count = |wanted: &[Status]| records.iter().filter(|r| wanted.contains(&r.state.status)).count();
        let v2 = cgroup::version() == cgroup::Version::V2;
        let security = ["name=seccomp,profile=builtin"].into_iter().chain(v2.then_some("name=cgroupns"));
        Info {
            id: self.id.clone(),
            containers: records.len(),
            containers_running: count(&[Status::Running, Status::Restarting]),
            containers_paused: count(&[Status::Paused]),
            containers_stopped: count(&[Status::Created, Status::Exited, Status::Dead, Status::Removing]),
            images: self.context.images.list().len(),
            driver: "overlay2".to_owned(),
            driver_status: driver_status(&settings.root),
            plugins: json!({"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "local", "none"]}),
            memory_limit: true,
            swap_limit: swap_limit(v2),
            cpu_cfs_period: true,
            cpu_cfs_quota: true,
            cpu_shares: true,
            cpu_set: true,
            pids_limit: true,
            ipv4_forwarding: flag("/proc/sys/net/ipv4/ip_forward"),
            debug: live.debug,
            n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            oom_kill_disable: !v2,
            n_goroutines: std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
            system_time: rfc3339_nano(now_ns()),
            logging_driver: settings.log.r#type.clone(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: if v2 { "2" } else { "1" }.to_owned(),
            n_events_listener: self.context.events.listeners(),
            kernel_version: machine.kernel,
            operating_system: machine.operating_system,
            os_version: machine.os_version,
            os_type: "linux".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: self.registry_config(),
            n_cpu: cpus(),
            mem_total: machine.memory_bytes,
            generic_resources: Value::Null,
            docker_root_dir: crate::merged::display(&settings.root),
            http_proxy: proxy("HTTP_PROXY"),
            https_proxy: proxy("HTTPS_PROXY"),
            no_proxy: proxy("NO_PROXY"),
            name: machine.name,
            labels: live.labels.clone(),
            experimental_build: false,
            server_version: server_version().to_owned(),
            runtimes: runtimes(&live),
            default_runtime: live.default_runtime.clone(),
            swarm: json!({"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null}),
            live_restore_enabled: live.live_restore,
            isolation: String::new(),
            init_binary: "hoist".to_owned(),
            containerd_commit: json!({"ID": ""}),
            runc_commit: json!({"ID": git_commit()}),
            init_commit: json!({"ID": git_commit()}),
            security_options: security.map(str::to_owned).collect(),
            cdi_spec_dirs: Vec::new(),
            default_address_pools: Value::Null,
            warnings: None,
        }
    }

    fn registry_config(&self) -> Value {
        let config = &self.context.settings.live.now().image;
        let mirrors: Vec<String> =
            config.registry_mirrors.iter().map(|url| format!("{}/", url.trim_end_matches('/'))).collect();
        let mut index = serde_json::Map::new();
        index.insert(
            "docker.io".to_owned(),
            json!({"Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true}),
        );
        let (cidrs, hosts): (Vec<&String>, Vec<&String>) =
            config.insecure_registries.iter().partition(|entry| entry.contains('/'));
        for host in hosts {
            index.insert(host.clone(), json!({"Name": host, "Mirrors": [], "Secure": false, "Official": false}));
        }
        let mut insecure = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
        insecure.extend(cidrs.into_iter().cloned());
        json!({"IndexConfigs": index, "InsecureRegistryCIDRs": insecure, "Mirrors": mirrors})
    }
}

fn driver_status(root: &Path) -> Vec<(String, String)> {
    let of_overlay = [
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ];
    let backing = ("Backing Filesystem".to_owned(), backing_filesystem(root));
    std::iter::once(backing).chain(of_overlay.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

fn runtimes(settings: &Reloadable) -> Value {
    let mut runtimes = serde_json::Map::new();
    for own in ["hoist", "runc"] {
        runtimes.insert(own.to_owned(), json!({"path": "hoist runtime"}));
    }
    for (name, runtime) in &settings.runtimes {
        let mut entry = json!({"path": crate::merged::display(&runtime.path)});
        if !runtime.args.is_empty() {
            entry["runtimeArgs"] = json!(runtime.args);
        }
        runtimes.insert(name.clone(), entry);
    }
    Value::Object(runtimes)
}

/// The version that clients see. Tools compare it with Docker's releases (some parse it as a number): it tells which
/// Docker this engine stands in for, `Platform.Name` tells which Hoist it is.
pub(crate) fn server_version() -> &'static str {
    "28.5.2"
}

fn git_commit() -> &'static str {
    option_env!("HOIST_COMMIT").unwrap_or("unknown")
}

fn build_time() -> String {
    option_env!("HOIST_BUILD_TIME").unwrap_or_default().to_owned()
}

/// Go's name of this machine's architecture.
pub(crate) fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

struct Machine {
    kernel: String,
    name: String,
    operating_system: String,
    os_version: String,
    memory_bytes: u64,
}

impl Machine {
    fn read() -> Machine {
        let uname = rustix::system::uname();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |key: &str| {
            release
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|v| v.trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: u64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        Machine {
            kernel: uname.release().to_string_lossy().into_owned(),
            name: uname.nodename().to_string_lossy().into_owned(),
            operating_system: field("PRETTY_NAME"),
            os_version: field("VERSION_ID"),
            memory_bytes: kib * 1024,
        }
    }
}

fn backing_filesystem(root: &std::path::Path) -> String {
    let magic = rustix::fs::statfs(root).map_or(0, |s| s.f_type);
    // statfs(2)
    match magic {
        0xEF53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        _ => "<unknown>",
    }
    .to_owned()
}

fn swap_limit(v2: bool) -> bool {
    v2 || std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

fn flag(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn proxy(name: &str) -> String {
    let set = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).unwrap_or_default();
    without_password(&set)
}

/// A URL with its user and password made unreadable.
fn without_password(url: &str) -> String {
    let from = url.find("://").map_or(0, |at| at + "://".len());
    let authority = url[from..].split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{}xxxxx:xxxxx{}", &url[..from], &url[from + at..]),
        None => url.to_owned(),
    }
}

/// CPUs that the engine may use. Looked up once: it reads a dozen files.
pub(crate) fn cpus() -> usize {
    static CPUS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

#[cfg(test)]
mod tests {
    #[test]
    fn nobody_reads_a_proxys_password() {
        let shown = super::without_password;
        assert_eq!(shown("http://u:p@w@proxy:3128/x@y"), "http://xxxxx:xxxxx@proxy:3128/x@y");
        assert_eq!(shown("u:pw@proxy"), "xxxxx:xxxxx@proxy");
        for plain in ["", "http://proxy:3128", "proxy", "localhost,.example.com"] {
            assert_eq!(shown(plain), plain);
        }
    }
}
