//! Version 2 groups: one directory. Controllers are switched on from the root down, device rules are a BPF program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hoist_sys::errno_text;
use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::files::{self, Dir};
use super::{Cgroup, Stats, device_program, devices, hierarchy, limits, stats};

const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where processes of a root go that is no real root (ours is then a container), so that controllers can be switched on.
const INIT_GROUP: &str = "init";

/// A group below the version 2 mount.
#[derive(Debug)]
pub(super) struct Unified {
    mount: &'static Path,
    directory: Result<PathBuf, String>,
}

impl Unified {
    pub(super) fn new(mount: &'static Path, path: &Path) -> Unified {
        Unified { mount, directory: hierarchy::relative(path).map(|relative| mount.join(relative)) }
    }

    fn directory(&self) -> io::Result<&Path> {
        self.directory.as_deref().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why.clone()))
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let directory = self.directory()?;
        rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(
            |errno| {
                io::Error::new(
                    errno.kind(),
                    format!("failed to open cgroup {directory:?}: {}", errno_text(&errno.into())),
                )
            },
        )
    }

    /// Replaces the device programs of the group. The new one is attached first: between, both must agree, so nothing
    /// is allowed that should not be.
    fn rule_devices(&self, resources: &LinuxResources) -> io::Result<()> {
        let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) else { return Ok(()) };
        let policy = devices::Policy::of_container(rules)
            .map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))?;
        let group = self.open()?;
        let explain = |error: io::Error| {
            let message = format!("failed to set device rules of cgroup {:?}: {}", self.directory, errno_text(&error));
            io::Error::new(error.kind(), message)
        };
        let old = hoist_sys::bpf::device_programs(group.as_fd());
        if !policy.allows_everything() {
            let program = hoist_sys::bpf::load_device_program(&device_program::compile(&policy)).map_err(explain)?;
            hoist_sys::bpf::attach_device_program(group.as_fd(), program.as_fd()).map_err(explain)?;
        }
        for id in old.unwrap_or_default() {
            hoist_sys::bpf::detach_device_program(group.as_fd(), id).map_err(explain)?;
        }
        Ok(())
    }

    fn apply(&self, resources: &LinuxResources) -> io::Result<()> {
        limits::v2::apply(Dir(self.directory()?), resources)
    }
}

impl Cgroup for Unified {
    fn create(&self, resources: &LinuxResources) -> io::Result<()> {
        let directory = self.directory()?;
        let is_new = make_directory(self.mount, directory)?;
        let result =
            refuse_invalid(directory).and_then(|()| self.apply(resources)).and_then(|()| self.rule_devices(resources));
        if result.is_err() && is_new {
            // The first error is the one to tell.
            let _ = files::remove_tree(directory);
        }
        result
    }

    fn enter(&self) -> io::Result<()> {
        Dir(self.directory()?).write("cgroup.procs", 0)
    }

    fn expect_entries(&self) -> io::Result<()> {
        // They are cloned into the group.
        Ok(())
    }

    fn clone_into_fd(&self) -> io::Result<Option<OwnedFd>> {
        self.open().map(Some)
    }

    fn update(&self, resources: &LinuxResources) -> io::Result<()> {
        self.rule_devices(resources)?;
        self.apply(resources)
    }

    fn freeze(&self, frozen: bool) -> io::Result<()> {
        let dir = Dir(self.directory()?);
        let wanted = u64::from(frozen);
        dir.write("cgroup.freeze", wanted)?;
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        loop {
            let events = dir.read("cgroup.events")?;
            if files::key_values(&events).any(|(key, value)| key == "frozen" && value == wanted) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                if frozen {
                    dir.write("cgroup.freeze", 0)?;
                }
                let message = format!("unable to freeze cgroup {:?} within {} s", dir.0, FREEZE_TIMEOUT.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            sleep(Duration::from_millis(1));
        }
    }

    fn is_frozen(&self) -> io::Result<bool> {
        files::unless_missing(Dir(self.directory()?).read("cgroup.freeze")).map(|state| state.trim() == "1")
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        files::pids_below(self.directory()?, &mut pids)?;
        Ok(pids)
    }

    fn oom_kills(&self) -> io::Result<u64> {
        match Dir(self.directory()?).read("memory.events") {
            Ok(text) => Ok(files::key_values(&text).find(|(key, _)| *key == "oom_kill").map_or(0, |(_, count)| count)),
            // No memory controller, no such killer.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn stats(&self) -> io::Result<Stats> {
        stats::unified(Dir(self.directory()?))
    }

    fn kill(&self) -> io::Result<()> {
        let dir = Dir(self.directory()?);
        match dir.try_write("cgroup.kill", 1) {
            Ok(()) => Ok(()),
            // Linux 5.13 and older.
            Err((Errno::NOENT, _)) if dir.has("cgroup.procs") => {
                let frozen = dir.write("cgroup.freeze", 1).is_ok();
                let killed = self.pids().map(|pids| files::kill_each(&pids));
                if frozen {
                    dir.write("cgroup.freeze", 0)?;
                }
                killed
            }
            Err((Errno::NOENT, _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    fn remove(&self) -> io::Result<()> {
        let directory = self.directory()?;
        match rustix::fs::rmdir(directory) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(_) => {}
        }
        self.kill()?;
        files::remove_tree(directory)
    }

    fn paths(&self) -> Vec<(String, PathBuf)> {
        self.directory.iter().map(|directory| (String::new(), directory.clone())).collect()
    }
}

/// Makes a group's directory; parents that are missing are made, with every controller switched on for what is below.
/// Tells whether the directory itself is new.
fn make_directory(mount: &Path, directory: &Path) -> io::Result<bool> {
    let parent = directory.parent().unwrap_or(mount);
    let mode = Mode::from_raw_mode(0o755);
    match rustix::fs::mkdir(directory, mode) {
        Ok(()) => {
            // A parent that was there before us may have controllers off.
            if lacks_controllers(parent) {
                enable_controllers(mount, parent);
            }
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::NOENT) if directory != mount => {
            make_directory(mount, parent)?;
            make_directory(mount, directory)
        }
        Err(errno) => {
            let text = errno_text(&errno.into());
            Err(io::Error::new(errno.kind(), format!("failed to make cgroup {directory:?}: {text}")))
        }
    }
}

fn lacks_controllers(group: &Path) -> bool {
    let dir = Dir(group);
    let (Ok(have), Ok(on)) = (dir.read("cgroup.controllers"), dir.read("cgroup.subtree_control")) else { return false };
    have.split_whitespace().any(|name| !on.split_whitespace().any(|other| other == name))
}

/// Switches on what can be, from the root down to `group`. What cannot be is missed by the limit that needs it, with an
/// error that names its file.
fn enable_controllers(mount: &Path, group: &Path) {
    if group != mount
        && let Some(parent) = group.parent()
        && lacks_controllers(parent)
    {
        enable_controllers(mount, parent);
    }
    let dir = Dir(group);
    let Ok(controllers) = dir.read("cgroup.controllers") else { return };
    let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    if all.is_empty() {
        return;
    }
    match dir.try_write("cgroup.subtree_control", all.join(" ")) {
        Ok(()) => return,
        // Processes in a group other than the real root are in the way; below the root of a namespace they are ours.
        Err((Errno::BUSY, _)) if group == mount && dir.has("cgroup.type") => {
            if move_processes(group).is_ok() && dir.write("cgroup.subtree_control", all.join(" ")).is_ok() {
                return;
            }
        }
        Err(_) => {}
    }
    for one in all {
        let _ = dir.write("cgroup.subtree_control", one);
    }
}

/// Moves the processes of the root of our cgroup namespace into a leaf (cgroups(7): no internal processes).
fn move_processes(root: &Path) -> io::Result<()> {
    let leaf = root.join(INIT_GROUP);
    match rustix::fs::mkdir(&leaf, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Processes forked meanwhile stay behind: again until none is left.
    for _ in 0..8 {
        let text = Dir(root).read("cgroup.procs")?;
        if text.trim().is_empty() {
            return Ok(());
        }
        for pid in text.lines() {
            // One that has ended meanwhile does not matter.
            let _ = Dir(&leaf).write("cgroup.procs", pid);
        }
    }
    Ok(())
}

/// A group below one that holds processes is unusable; better said now than by a strange error later.
fn refuse_invalid(directory: &Path) -> io::Result<()> {
    let kind = Dir(directory).read("cgroup.type")?;
    if kind.trim() == "domain invalid" {
        let message = format!("cgroup {directory:?} cannot be used: a group above it holds processes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}
