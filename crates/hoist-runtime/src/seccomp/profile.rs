//! From Docker's form of a profile (conditions on capabilities, machine and kernel) to OCI's (none).

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSyscall,
};
use serde::Deserialize;

use super::default_rules::{RULES, Rule, When};
use super::syscalls::Abi;

/// Longest profile that is read: Docker's own has 16 KiB.
const MAX_PROFILE_BYTES: usize = 4 * 1024 * 1024;

const EPERM: u32 = 1;

pub(super) fn default(capabilities: &[String]) -> LinuxSeccomp {
    let facts = Facts::of(capabilities);
    let syscalls = RULES.iter().filter(|rule| facts.meet(rule.when)).map(syscall).collect();
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(native_architectures()))
        .set_syscalls(Some(syscalls));
    profile
}

fn syscall(rule: &Rule) -> LinuxSyscall {
    let arguments = rule.argument.map(|(index, operator, value, second)| {
        let argument = LinuxSeccompArgBuilder::default().index(index).op(operator).value(value);
        let argument = if second == 0 { argument } else { argument.value_two(second) };
        // Every field has a default, so this builder does not fail.
        vec![argument.build().unwrap_or_default()]
    });
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(rule.names.split_whitespace().map(str::to_owned).collect())
        .set_action(rule.action)
        .set_errno_ret(rule.errno)
        .set_args(arguments);
    syscall
}

/// This machine and its 32-bit companions, as Docker maps them.
fn native_architectures() -> Vec<Arch> {
    match Abi::NATIVE {
        Abi::Aarch64 => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
    }
}

/// What conditions are checked against.
struct Facts<'a> {
    capabilities: &'a [String],
    kernel: (u32, u32),
}

impl<'a> Facts<'a> {
    fn of(capabilities: &'a [String]) -> Facts<'a> {
        Facts { capabilities, kernel: running_kernel() }
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|name| name == capability)
    }

    fn meet(&self, when: When) -> bool {
        match when {
            When::Always => true,
            When::Has(capability) => self.has(capability),
            When::Lacks(capability) => !self.has(capability),
            When::Kernel(major, minor) => self.kernel >= (major, minor),
            When::Machine(machines) => machines.contains(&native_architectures()[0]),
        }
    }

    fn include(&self, filter: &Filter) -> Result<bool, String> {
        let machine = filter.arches.is_empty() || filter.arches.iter().any(|arch| arch == DOCKER_ARCH);
        Ok(machine && filter.caps.iter().all(|name| self.has(name)) && self.is_new_enough(filter)?.unwrap_or(true))
    }

    fn exclude(&self, filter: &Filter) -> Result<bool, String> {
        let machine = filter.arches.iter().any(|arch| arch == DOCKER_ARCH);
        Ok(machine || filter.caps.iter().any(|name| self.has(name)) || self.is_new_enough(filter)?.unwrap_or(false))
    }

    fn is_new_enough(&self, filter: &Filter) -> Result<Option<bool>, String> {
        let Some(text) = filter.min_kernel.as_deref() else { return Ok(None) };
        let least = kernel_version(text).ok_or_else(|| format!("invalid kernel version: {text:?}"))?;
        Ok(Some(self.kernel >= least))
    }
}

/// Docker's name of this machine in `includes` and `excludes`.
const DOCKER_ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

fn running_kernel() -> (u32, u32) {
    let release = rustix::system::uname();
    release.release().to_str().ok().and_then(kernel_version).unwrap_or((0, 0))
}

/// `6.1.0-13-amd64` is (6, 1).
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, digits.parse().ok()?))
}

/// Docker's form. OCI's is a part of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerProfile {
    #[serde(default)]
    default_action: Option<LinuxSeccompAction>,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    #[serde(default)]
    listener_path: Option<std::path::PathBuf>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<DockerSyscall>>,
}

/// Names stay text: other machines' may be newer than our vocabulary and do not matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerSyscall {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default, deserialize_with = "null_is_empty")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

pub(super) fn parse(json: &str, capabilities: &[String]) -> Result<LinuxSeccomp, String> {
    if json.len() > MAX_PROFILE_BYTES {
        return Err(format!("seccomp profile has {} bytes, the most is {MAX_PROFILE_BYTES}", json.len()));
    }
    let read: DockerProfile =
        serde_json::from_str(json).map_err(|error| format!("Decoding seccomp profile failed: {error}"))?;
    let mut profile = LinuxSeccomp::default();
    let calls = read.syscalls.unwrap_or_default();
    let Some(default_action) = read.default_action else {
        if calls.is_empty() {
            // Docker takes a profile that says nothing as none at all.
            profile.set_default_action(LinuxSeccompAction::ScmpActAllow);
            return Ok(profile);
        }
        return Err("Decoding seccomp profile failed: it has no defaultAction".to_owned());
    };
    let listed = read.architectures.unwrap_or_default();
    let map = read.arch_map.unwrap_or_default();
    if !listed.is_empty() && !map.is_empty() {
        return Err("both 'architectures' and 'archMap' are specified in the seccomp profile, \
                    use either 'architectures' or 'archMap'"
            .to_owned());
    }
    let architectures = if map.is_empty() { listed } else { mapped(&map)? };
    let facts = Facts::of(capabilities);
    let mut syscalls = Vec::new();
    for call in calls {
        if let Some(syscall) = resolve(call, &facts)? {
            syscalls.push(syscall);
        }
    }
    profile
        .set_default_action(default_action)
        .set_default_errno_ret(read.default_errno_ret)
        .set_architectures(Some(architectures).filter(|list| !list.is_empty()))
        .set_flags(read.flags)
        .set_listener_path(read.listener_path)
        .set_listener_metadata(read.listener_metadata)
        .set_syscalls(Some(syscalls));
    Ok(profile)
}

fn mapped(map: &[ArchMap]) -> Result<Vec<Arch>, String> {
    let native = native_architectures()[0].to_string();
    let Some(entry) = map.iter().find(|entry| entry.architecture == native) else { return Ok(Vec::new()) };
    std::iter::once(&entry.architecture)
        .chain(entry.sub_architectures.iter().flatten())
        .map(|name| name.parse().map_err(|_| format!("unknown architecture {name:?} in the seccomp profile")))
        .collect()
}

fn resolve(call: DockerSyscall, facts: &Facts<'_>) -> Result<Option<LinuxSyscall>, String> {
    let names = match (call.name.filter(|name| !name.is_empty()), call.names.unwrap_or_default()) {
        (Some(_), names) if !names.is_empty() => {
            return Err("both 'name' and 'names' are specified in the seccomp profile, \
                        use either 'name' or 'names'"
                .to_owned());
        }
        (Some(name), _) => vec![name],
        (None, names) => names,
    };
    if call.excludes.as_ref().map_or(Ok(false), |filter| facts.exclude(filter))?
        || !call.includes.as_ref().map_or(Ok(true), |filter| facts.include(filter))?
    {
        return Ok(None);
    }
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(names)
        .set_action(call.action)
        .set_errno_ret(call.errno_ret)
        .set_args(call.args.filter(|arguments| !arguments.is_empty()));
    Ok(Some(syscall))
}
