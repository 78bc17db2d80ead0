//! Capability names, Docker's default set, and what `--cap-add` and `--cap-drop` make of it. Does not set any
//! capability: that is the container's init.

use std::sync::OnceLock;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// Docker's 14, in Docker's order.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability of capabilities(7), at the index that is its number.
pub const ALL_CAPABILITIES: [&str; 41] = hoist_sys::capability::NAMES;

/// What `--privileged` and `--cap-add ALL` can give: known to the running kernel (`cap_last_cap`) and held by this
/// process. Read once.
pub fn available_capabilities() -> &'static [&'static str] {
    static AVAILABLE: OnceLock<Vec<&'static str>> = OnceLock::new();
    AVAILABLE.get_or_init(|| {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(ALL_CAPABILITIES.len() - 1);
        let held = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| effective_mask(&text));
        ALL_CAPABILITIES
            .iter()
            .enumerate()
            .filter(|&(number, _)| number <= last && held.is_none_or(|mask| mask >> number & 1 == 1))
            .map(|(_, &name)| name)
            .collect()
    })
}

/// `CapEff` of a `/proc/<pid>/status` text.
fn effective_mask(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The capabilities of a container with these options, by Docker's rules: `ALL` in `add` wins over `ALL` in `drop`,
/// a name given in both is there. Names may lack `CAP_` and be in any case.
pub fn tweak_capabilities(add: &[String], drop: &[String], privileged: bool) -> Result<Vec<String>, String> {
    tweak(add, drop, privileged, available_capabilities())
}

/// Checks the names as Docker does when a container is created; the error is what the API answers.
pub fn check_capabilities(add: &[String], drop: &[String]) -> Result<(), String> {
    tweak(add, drop, false, available_capabilities()).map(|_| ())
}

pub(super) fn tweak(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: &[&str],
) -> Result<Vec<String>, String> {
    let add = normalize(add, available).map_err(|e| format!("invalid CapAdd: {e}"))?;
    let drop = normalize(drop, available).map_err(|e| format!("invalid CapDrop: {e}"))?;
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    if privileged {
        return Ok(owned(available));
    }
    let has = |list: &[String], name: &str| list.iter().any(|item| item == name);
    let mut result = if has(&add, "ALL") {
        let mut all = owned(available);
        all.retain(|name| !has(&drop, name));
        return Ok(all);
    } else if has(&drop, "ALL") {
        Vec::new()
    } else {
        let mut defaults = owned(&DEFAULT_CAPABILITIES);
        defaults.retain(|name| !has(&drop, name));
        defaults
    };
    for name in add {
        if !has(&result, &name) {
            result.push(name);
        }
    }
    Ok(result)
}

fn normalize(names: &[String], available: &[&str]) -> Result<Vec<String>, String> {
    names
        .iter()
        .map(|name| {
            let mut name = name.to_uppercase();
            if name == "ALL" {
                return Ok(name);
            }
            if !name.starts_with("CAP_") {
                name.insert_str(0, "CAP_");
            }
            if available.contains(&name.as_str()) {
                Ok(name)
            } else if ALL_CAPABILITIES.contains(&name.as_str()) {
                let why = "capability not supported by your kernel or not available in the current environment";
                Err(format!("{why}: {name:?}"))
            } else {
                Err(format!("unknown capability: {name:?}"))
            }
        })
        .collect()
}

/// These names as bounding, effective and permitted sets; inheritable and ambient stay empty (CVE-2022-24769).
/// Names that do not exist are left out.
pub fn capability_sets<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> LinuxCapabilities {
    let set: Capabilities = names.into_iter().filter_map(|name| parse(name.as_ref())).collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

fn parse(name: &str) -> Option<Capability> {
    name.strip_prefix("CAP_").unwrap_or(name).parse().ok()
}
