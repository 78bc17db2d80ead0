//! What an engine could leave behind in the kernel, as lists that can be compared before and after a run of the suite.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::project::{has_program, output};

/// All that is compared: one line of text for each thing, the kind first.
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub(crate) fn take() -> Result<Self> {
        let mut things = BTreeSet::new();
        mounts(&mut things);
        cgroups(Path::new("/sys/fs/cgroup"), &mut things);
        links(&mut things);
        processes(&mut things);
        if has_program("nft") {
            for line in output(Command::new("nft").args(["list", "tables"]))?.lines() {
                things.insert(format!("nft {}", line.trim()));
            }
        }
        Ok(Self(things))
    }

    /// What is there in `after` and was not here. An engine answers first and tears down in the background, so things are
    /// looked at again for two seconds before they count.
    pub(crate) fn leaked_until(&self, after: &Self) -> Vec<String> {
        let mut leaked: Vec<String> = after.0.difference(&self.0).cloned().collect();
        for _ in 0..20 {
            if leaked.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            let Ok(now) = Self::take() else { break };
            leaked.retain(|thing| now.0.contains(thing));
        }
        leaked
    }
}

pub(crate) fn print() -> Result<()> {
    for thing in Snapshot::take()?.0 {
        println!("{thing}");
    }
    Ok(())
}

fn mounts(things: &mut BTreeSet<String>) {
    for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        if let Some(point) = line.split(' ').nth(4) {
            things.insert(format!("mount {point}"));
        }
    }
}

fn cgroups(directory: &Path, things: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            things.insert(format!("cgroup {}", entry.path().display()));
            cgroups(&entry.path(), things);
        }
    }
}

fn links(things: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        things.insert(format!("link {}", entry.file_name().to_string_lossy()));
    }
}

/// The processes of ours (by the name of their executable), and the network namespaces that any process holds.
fn processes(things: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let process = entry.path();
        if let Ok(netns) = std::fs::read_link(process.join("ns/net")) {
            things.insert(format!("netns {}", netns.display()));
        }
        let Ok(executable) = std::fs::read_link(process.join("exe")) else { continue };
        let comm = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        let is_ours = executable.file_name().is_some_and(|file| file.to_string_lossy().starts_with("hoist"));
        if is_ours || comm.starts_with("hoist") {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            things.insert(format!("process {name} {} {}", comm.trim(), line.trim()));
        }
    }
}
