//! Docker's defaults as an OCI runtime spec: namespaces, mounts, device rules, masked and read-only paths; what
//! `--privileged` changes. Capabilities and host devices have a file each. Decides nothing about a particular
//! container: the engine starts from [`default_spec`] and changes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use oci_spec::runtime::{
    Linux, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, Process,
    Root, Spec,
};

use crate::cgroup::Version;

mod capabilities;
mod devices;
#[cfg(test)]
mod tests;

pub use capabilities::{
    ALL_CAPABILITIES, DEFAULT_CAPABILITIES, available_capabilities, capability_sets, check_capabilities,
    tweak_capabilities,
};
pub use devices::{DEFAULT_DEVICES, DefaultDevice, all_host_devices, device_rule, host_devices};

/// Version of the OCI runtime specification that our specs are written in.
pub const OCI_VERSION: &str = "1.2.1";

/// Size of `/dev/shm` unless `--shm-size` says otherwise.
pub const DEFAULT_SHM_SIZE_BYTES: u64 = 64 * 1024 * 1024;

/// `PATH` of a container whose image sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths hidden from a container, in the order in which Docker reports them.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that a container can read but not write.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// (destination, type, source, options), in the order in which they are mounted.
const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
];

/// What Docker allows of devices: (type, major, minor); everything else is denied.
const ALLOWED_DEVICES: [(LinuxDeviceType, i64, i64); 6] = [
    (LinuxDeviceType::C, 1, 5), // zero
    (LinuxDeviceType::C, 1, 3), // null
    (LinuxDeviceType::C, 1, 9), // urandom
    (LinuxDeviceType::C, 1, 8), // random
    (LinuxDeviceType::C, 5, 0), // tty
    (LinuxDeviceType::C, 5, 1), // console
];

/// The spec of a container run with no options, without what an image or a network adds: process arguments,
/// environment, hostname, `/etc` mounts and the seccomp profile.
pub fn default_spec(version: Version) -> Spec {
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(Default::default())
        .set_args(Some(Vec::new()))
        .set_cwd(PathBuf::from("/"))
        .set_capabilities(Some(capability_sets(DEFAULT_CAPABILITIES)))
        .set_rlimits(None)
        .set_no_new_privileges(Some(false))
        .set_oom_score_adj(Some(0));
    process.set_env(Some(vec![format!("PATH={DEFAULT_PATH}")]));
    let mut root = Root::default();
    root.set_path(PathBuf::new()).set_readonly(Some(false));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_hostname(None)
        .set_domainname(None)
        .set_hooks(None)
        .set_annotations(None)
        .set_mounts(Some(default_mounts()))
        .set_linux(Some(default_linux(version)));
    spec
}

fn default_mounts() -> Vec<Mount> {
    MOUNTS
        .iter()
        .map(|(destination, kind, source, options)| {
            let mut options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
            if *destination == "/dev/shm" {
                options.push(format!("size={DEFAULT_SHM_SIZE_BYTES}"));
            }
            let mut mount = Mount::default();
            mount
                .set_destination(PathBuf::from(destination))
                .set_typ(Some((*kind).to_owned()))
                .set_source(Some(PathBuf::from(source)))
                .set_options(Some(options));
            mount
        })
        .collect()
}

fn default_linux(version: Version) -> Linux {
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(default_device_rules()));
    let mut linux = Linux::default();
    linux
        .set_resources(Some(resources))
        .set_namespaces(Some(default_namespaces(version)))
        .set_devices(None)
        .set_sysctl(Some(network_sysctls().clone()))
        .set_seccomp(None)
        .set_rootfs_propagation(None)
        .set_masked_paths(Some(masked_paths()))
        .set_readonly_paths(Some(READONLY_PATHS.iter().map(|&p| p.to_owned()).collect()));
    linux
}

/// The namespaces of a container of its own; the cgroup namespace is private on version 2 only, as with Docker.
pub fn default_namespaces(version: Version) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let kinds: &[LinuxNamespaceType] = match version {
        Version::V1 => &[Mount, Network, Uts, Pid, Ipc],
        Version::V2 => &[Mount, Network, Uts, Pid, Ipc, Cgroup],
    };
    kinds
        .iter()
        .map(|&kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind).set_path(None);
            namespace
        })
        .collect()
}

/// Deny everything, then allow what every container needs; `/dev/fuse` is denied by name, as Docker does.
pub fn default_device_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![device_rule(false, None, None, None, "rwm")];
    for (kind, major, minor) in ALLOWED_DEVICES {
        rules.push(device_rule(true, Some(kind), Some(major), Some(minor), "rwm"));
    }
    rules.push(device_rule(false, Some(LinuxDeviceType::C), Some(10), Some(229), "rwm"));
    rules
}

/// [`MASKED_PATHS`] and the thermal throttle counters of each CPU that has them (they leak what neighbours do).
pub fn masked_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED_PATHS.iter().map(|&p| p.to_owned()).collect();
    for cpu in 0.. {
        let directory = format!("/sys/devices/system/cpu/cpu{cpu}");
        if !Path::new(&directory).exists() {
            break;
        }
        let throttle = format!("{directory}/thermal_throttle");
        if Path::new(&throttle).exists() {
            paths.push(throttle);
        }
    }
    paths
}

const PING_GROUPS: &str = "net.ipv4.ping_group_range";

/// Whether all users and groups are there to be named; in a user namespace some are not.
fn has_all_ids() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Sysctls that Docker sets in a network namespace of the container's own: ping without `CAP_NET_RAW`, low ports
/// without `CAP_NET_BIND_SERVICE`. Those that this kernel has.
pub fn network_sysctls() -> &'static HashMap<String, String> {
    static FOUND: OnceLock<HashMap<String, String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        [(PING_GROUPS, "0 2147483647"), ("net.ipv4.ip_unprivileged_port_start", "0")]
            .into_iter()
            .filter(|(name, _)| *name != PING_GROUPS || has_all_ids())
            .filter(|(name, _)| Path::new("/proc/sys").join(name.replace('.', "/")).exists())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    })
}

/// Turns a spec into that of a `--privileged` container: all capabilities and host devices, any device access, `/sys`
/// and cgroups writable, nothing masked, no seccomp. Errors when the host's `/dev` cannot be read.
pub fn make_privileged(spec: &mut Spec) -> Result<(), String> {
    let devices = all_host_devices()?;
    if let Some(process) = spec.process_mut() {
        process.set_capabilities(Some(capability_sets(available_capabilities().iter().copied())));
        process.set_apparmor_profile(None);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let is_sys = mount.destination() == Path::new("/sys");
        if (is_sys || mount.typ().as_deref() == Some("cgroup"))
            && let Some(options) = mount.options_mut()
        {
            options.retain(|option| option != "ro");
        }
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_masked_paths(None).set_readonly_paths(None).set_seccomp(None).set_devices(Some(devices));
        let mut resources = linux.resources().clone().unwrap_or_default();
        resources.set_devices(Some(vec![device_rule(true, None, None, None, "rwm")]));
        linux.set_resources(Some(resources));
    }
    Ok(())
}
