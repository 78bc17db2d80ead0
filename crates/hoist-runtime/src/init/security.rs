//! Labels of AppArmor and SELinux, put on at exec.

use std::path::Path;

use oci_spec::runtime::Process;

use crate::failure::{OrFail, Result};
use crate::protocol::Failure;

fn apparmor_label(process: &Process) -> Option<&str> {
    process.apparmor_profile().as_deref().filter(|label| !label.is_empty())
}

fn selinux_label(process: &Process) -> Option<&str> {
    process.selinux_label().as_deref().filter(|label| !label.is_empty())
}

/// Refuses a label that the kernel would not enforce.
pub(crate) fn check_labels(process: &Process) -> Result<()> {
    if let Some(profile) = apparmor_label(process) {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|content| content.starts_with(b"Y")) {
            return Err(Failure::other(format!(
                "apparmor profile {profile:?} was asked for, but AppArmor is not enabled on the system"
            )));
        }
    }
    if selinux_label(process).is_some() && !Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Failure::other("selinux label is specified in config, but selinux is disabled or not supported"));
    }
    Ok(())
}

/// Tells the kernel the labels for the next exec of this process. Must run while the host's /proc is to be seen.
pub(crate) fn set_exec_labels(process: &Process) -> Result<()> {
    if let Some(profile) = apparmor_label(process) {
        let specific = Path::new("/proc/self/attr/apparmor/exec");
        let path = if specific.exists() { specific } else { Path::new("/proc/self/attr/exec") };
        std::fs::write(path, format!("exec {profile}"))
            .or_fail(|| format!("unable to apply apparmor profile {profile:?}"))?;
    }
    if let Some(label) = selinux_label(process) {
        std::fs::write("/proc/self/attr/exec", label).or_fail(|| format!("unable to apply selinux label {label:?}"))?;
    }
    Ok(())
}
