//! `--security-opt`: seccomp programs (compiled once per profile), AppArmor and SELinux labels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hoist_api::host_config::HostConfig;
use hoist_runtime::seccomp;
use oci_spec::runtime::Spec;

use crate::container::record::Record;
use crate::error::{Error, Result};

/// Profile text (empty: Docker's default) and the container's capabilities.
type Key = (String, Vec<String>);

/// Compiled seccomp programs by profile text and capabilities.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    compiled: Mutex<HashMap<Key, Arc<Vec<u8>>>>,
}

impl Programs {
    fn get(&self, profile: &str, capabilities: &[String]) -> Result<Arc<Vec<u8>>> {
        let key = (profile.to_owned(), capabilities.to_vec());
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = compiled.get(&key) {
            return Ok(program.clone());
        }
        let bad = |e: String| Error::invalid(format!("Decoding seccomp profile failed: {e}"));
        let parsed = if profile.is_empty() {
            seccomp::default_profile(capabilities)
        } else {
            seccomp::parse_profile(profile, capabilities).map_err(bad)?
        };
        let program = Arc::new(seccomp::compile(&parsed).map_err(bad)?);
        if compiled.len() > 64 {
            compiled.clear();
        }
        compiled.insert(key, program.clone());
        Ok(program)
    }
}

/// What the last option of that name says, if there is one; the bare name says yes.
pub(super) fn flag(host: &HostConfig, name: &str) -> Option<bool> {
    let said = |option: &String| {
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
        (key == name).then(|| crate::logs::parse_bool(value))
    };
    host.security_opt.iter().flatten().filter_map(said).next_back().flatten()
}

/// Applies the options; the seccomp program to load, if any.
pub(super) fn fill(spec: &mut Spec, record: &Record, programs: &Programs) -> Result<Option<Vec<u8>>> {
    let host = &record.fixed.host_config;
    let mut profile = Some(String::new());
    for option in host.security_opt.iter().flatten() {
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match key {
            "no-new-privileges" | "writable-cgroups" | "disable" => {}
            "systempaths" if value == "unconfined" => {}
            "seccomp" if value == "unconfined" => profile = None,
            "seccomp" if value == "builtin" => {}
            "seccomp" => profile = Some(value.to_owned()),
            // Where the kernel has no such module, Docker does nothing about what is asked of it.
            "apparmor" if value == "unconfined" || value.is_empty() || !has_apparmor() => {}
            "apparmor" => {
                if let Some(process) = spec.process_mut() {
                    process.set_apparmor_profile(Some(value.to_owned()));
                }
            }
            "label" if value == "disable" || !has_selinux() => {}
            "label" => selinux_label(spec, value)?,
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: \"{option}\""))),
        }
    }
    if let Some(writable) = flag(host, "writable-cgroups") {
        open_cgroups(spec, writable);
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(None);
    }
    let explicit = host.security_opt.iter().flatten().any(|o| o.starts_with("seccomp"));
    let Some(profile) = profile.filter(|_| !host.privileged || explicit) else { return Ok(None) };
    let mut capabilities: Vec<String> = spec
        .process()
        .as_ref()
        .and_then(|p| p.capabilities().as_ref())
        .and_then(|c| c.bounding().as_ref())
        .map(|set| set.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    capabilities.sort();
    programs.get(&profile, &capabilities).map(|program| Some(program.to_vec()))
}

/// The container may, or may not, change its own control groups.
fn open_cgroups(spec: &mut Spec, writable: bool) {
    let mounts = spec.mounts_mut().iter_mut().flatten();
    for options in
        mounts.filter(|mount| mount.typ().as_deref() == Some("cgroup")).filter_map(|m| m.options_mut().as_mut())
    {
        options.retain(|option| !matches!(option.as_str(), "ro" | "rw"));
        options.push(if writable { "rw" } else { "ro" }.to_owned());
    }
}

fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.starts_with(b"Y"))
}

fn has_selinux() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}

fn selinux_label(spec: &mut Spec, value: &str) -> Result<()> {
    let (field, text) = value.split_once(':').ok_or_else(|| Error::invalid(format!("bad SELinux option: {value}")))?;
    let mut parts = ["system_u".to_owned(), "system_r".to_owned(), "container_t".to_owned(), "s0".to_owned()];
    let at = match field {
        "user" => 0,
        "role" => 1,
        "type" => 2,
        "level" => 3,
        _ => return Err(Error::invalid(format!("bad SELinux option: {value}"))),
    };
    text.clone_into(&mut parts[at]);
    if let Some(process) = spec.process_mut() {
        process.set_selinux_label(Some(parts.join(":")));
    }
    Ok(())
}
