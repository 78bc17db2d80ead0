//! What is known of a container between two commands: `<root>/<id>/state.json`, and what its process says.
//!
//! ```text
//! <root>/<id>/state.json   the record below
//! <root>/<id>/go           a fifo that init reads one byte from; gone once the container was started
//! <root>/<id>/report       a fifo that init writes to when the start fails
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::bundle;
use super::fault::{Fault, Result, Trying};
use crate::cgroup::{self, Cgroup};

pub(super) const GO: &str = "go";
pub(super) const REPORT: &str = "report";
const STATE: &str = "state.json";
/// Longest record that is read: the largest part is the bundle's configuration.
const MAX_STATE_BYTES: u64 = 16 * 1024 * 1024;

/// The states of the OCI runtime specification, and runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// The content of `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: tells our process from a later one of the same number.
    pub(super) pid_started: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) cgroups_path: PathBuf,
    /// The bundle's configuration as it was at creation.
    pub(super) config: Spec,
    #[serde(skip)]
    pub(super) directory: PathBuf,
}

impl Record {
    /// Reads the record of an existing container.
    pub(super) fn load(root: &Path, id: &str) -> Result<Record> {
        check_id(id)?;
        let directory = root.join(id);
        let path = directory.join(STATE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Fault::new(format!("container {id:?} does not exist")));
            }
            file => file.trying(|| format!("open {}", path.display()))?,
        };
        let json = bundle::read_up_to(file, MAX_STATE_BYTES).trying(|| format!("read {}", path.display()))?;
        let record: Record = serde_json::from_slice(&json)
            .map_err(|error| Fault::new(format!("unreadable state {}: {error}", path.display())))?;
        Ok(Record { directory, ..record })
    }

    /// Writes the record so that a reader sees all of it or nothing.
    pub(super) fn save(&self) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|error| Fault::new(format!("encode state: {error}")))?;
        write_atomically(&self.directory.join(STATE), &json)
    }

    pub(super) fn status(&self) -> Result<Status> {
        if !is_alive(self.pid, self.pid_started) {
            return Ok(Status::Stopped);
        }
        if self.cgroup().is_frozen().trying(|| "read freezer state")? {
            return Ok(Status::Paused);
        }
        Ok(if self.directory.join(GO).exists() { Status::Created } else { Status::Running })
    }

    pub(super) fn cgroup(&self) -> Box<dyn Cgroup> {
        cgroup::at(&self.cgroups_path)
    }

    /// OCI's state, as hooks and users get it.
    pub(super) fn state(&self, status: &str) -> serde_json::Value {
        let pid = if status == "stopped" { 0 } else { self.pid };
        serde_json::json!({
            "ociVersion": crate::defaults::OCI_VERSION,
            "id": self.id,
            "pid": pid,
            "status": status,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
            "annotations": self.config.annotations().clone().unwrap_or_default(),
            "owner": "",
        })
    }
}

/// runc's rule.
pub(super) fn check_id(id: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.chars().all(fits) {
        return Err(Fault::new(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

pub(super) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary))).trying(|| format!("write {}", path.display()))
}

/// Start time of a process in clock ticks since boot, and whether it is a zombie.
fn stat(pid: i32) -> Option<(u64, bool)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let after = text.iter().rposition(|&byte| byte == b')')? + 2;
    let text = String::from_utf8_lossy(text.get(after..)?);
    let mut fields = text.split(' ');
    let state = fields.next()?;
    Some((fields.nth(18)?.parse().ok()?, matches!(state, "Z" | "X")))
}

pub(super) fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|(started, _)| started)
}

pub(super) fn is_alive(pid: i32, started: u64) -> bool {
    stat(pid).is_some_and(|(now, is_zombie)| now == started && !is_zombie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_leave_the_root_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "ü"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "my_container-1.2+x"] {
            check_id(good).unwrap();
        }
    }

    #[test]
    fn this_process_is_alive_and_another_of_its_number_would_not_be() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = start_time(pid).unwrap();
        assert!(is_alive(pid, started) && !is_alive(pid, started + 1));
    }
}
