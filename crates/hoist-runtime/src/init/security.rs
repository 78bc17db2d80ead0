//! Labels of AppArmor and SELinux, put on at exec.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use oci_spec::runtime::Process;
use rustix::fs::OFlags;

use super::host_proc::HostProc;
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

/// Where the kernel is told the labels for the next exec of a process. Opened while the process has not yet entered
/// another user namespace, and written to by the same process when nothing else is executed any more.
#[derive(Debug, Default)]
pub(crate) struct ExecLabels {
    apparmor: Option<(File, String)>,
    selinux: Option<(File, String)>,
}

impl ExecLabels {
    pub(crate) fn open(process: &Process, proc: &HostProc) -> Result<ExecLabels> {
        let mut labels = ExecLabels::default();
        if let Some(profile) = apparmor_label(process) {
            let file = match proc.open_at("self/attr/apparmor/exec", OFlags::WRONLY) {
                Err(error) if error.kind() == ErrorKind::NotFound => proc.open_at("self/attr/exec", OFlags::WRONLY),
                opened => opened,
            };
            let file = file.or_fail(|| format!("unable to apply apparmor profile {profile:?}"))?;
            labels.apparmor = Some((file.into(), profile.to_owned()));
        }
        if let Some(label) = selinux_label(process) {
            let file = proc.open_at("self/attr/exec", OFlags::WRONLY);
            let file = file.or_fail(|| format!("unable to apply selinux label {label:?}"))?;
            labels.selinux = Some((file.into(), label.to_owned()));
        }
        Ok(labels)
    }

    /// From here on the next program that is executed bears the labels.
    pub(crate) fn set(self) -> Result<()> {
        if let Some((mut file, profile)) = self.apparmor {
            file.write_all(format!("exec {profile}").as_bytes())
                .or_fail(|| format!("unable to apply apparmor profile {profile:?}"))?;
        }
        if let Some((mut file, label)) = self.selinux {
            file.write_all(label.as_bytes()).or_fail(|| format!("unable to apply selinux label {label:?}"))?;
        }
        Ok(())
    }
}
