//! Version 1 groups: one directory in each hierarchy. Fast on the way in: one mkdir(2) in each hierarchy, device rules
//! over one open file, membership by the process itself through `tasks`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hoist_sys::errno_text;
use oci_spec::runtime::LinuxResources;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::files::{self, Dir};
use super::hierarchy::{self, Hierarchy};
use super::limits::{self, v1 as limit};
use super::{Cgroup, Stats, devices, stats};

/// How long freezing may take before it is given up and undone.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// A group of the same path in every version 1 hierarchy.
#[derive(Debug)]
pub(super) struct Legacy {
    hierarchies: &'static [Hierarchy],
    /// A mount of version 2 in which other runtimes (runc) make a group of this path, too.
    beside: Option<&'static Path>,
    relative: Result<PathBuf, String>,
    /// The `tasks` files, once more than one process is expected to enter.
    entries: OnceLock<Vec<OwnedFd>>,
}

impl Legacy {
    pub(super) fn new(hierarchies: &'static [Hierarchy], beside: Option<&'static Path>, path: &Path) -> Legacy {
        Legacy { hierarchies, beside, relative: hierarchy::relative(path), entries: OnceLock::new() }
    }

    fn relative(&self) -> io::Result<&Path> {
        if self.hierarchies.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted on this machine"));
        }
        self.relative.as_deref().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why.clone()))
    }

    /// The group's directory for a controller, if that is mounted.
    fn directory(&self, controller: &str) -> io::Result<Option<PathBuf>> {
        let relative = self.relative()?;
        Ok(self.hierarchies.iter().find(|h| h.has(controller)).map(|h| h.mount_point.join(relative)))
    }

    fn directories(&self) -> io::Result<Vec<PathBuf>> {
        let relative = self.relative()?;
        Ok(self.hierarchies.iter().map(|h| h.mount_point.join(relative)).collect())
    }

    /// The directory for a controller that a limit needs.
    fn needed(&self, controller: &str) -> io::Result<PathBuf> {
        self.directory(controller)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, format!("the {controller} cgroup controller is not mounted"))
        })
    }

    /// Where processes are looked up: any hierarchy does, one that others touch least is best.
    fn listing(&self) -> io::Result<PathBuf> {
        for controller in ["devices", "freezer", "pids"] {
            if let Some(directory) = self.directory(controller)? {
                return Ok(directory);
            }
        }
        Ok(self.hierarchies[0].mount_point.join(self.relative()?))
    }

    fn make(&self, made: &mut Vec<PathBuf>) -> io::Result<()> {
        let relative = self.relative()?;
        for hierarchy in self.hierarchies {
            let is_cpuset = hierarchy.has("cpuset");
            let directory = hierarchy.mount_point.join(relative);
            if make_directory(&hierarchy.mount_point, &directory, is_cpuset)? {
                made.push(directory.clone());
            }
            if is_cpuset {
                inherit_cpuset(&hierarchy.mount_point, &directory)?;
            }
        }
        Ok(())
    }

    fn limit(&self, resources: &LinuxResources) -> io::Result<()> {
        if let Some(memory) = resources.memory()
            && *memory != Default::default()
        {
            // `disableOOMKiller: false` alone, which dockerd always sends, needs no controller.
            match self.directory("memory")? {
                Some(directory) => limit::memory(Dir(&directory), memory)?,
                None if memory_is_limited(memory) => drop(self.needed("memory")?),
                None => {}
            }
        }
        if let Some(cpu) = resources.cpu()
            && *cpu != Default::default()
        {
            limit::cpu(Dir(&self.needed("cpu")?), cpu)?;
            if cpu.cpus().is_some() || cpu.mems().is_some() {
                limits::cpuset(Dir(&self.needed("cpuset")?), cpu)?;
            }
        }
        if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
            limits::pids(Dir(&self.needed("pids")?), pids.limit())?;
        }
        if let Some(io) = resources.block_io()
            && *io != Default::default()
        {
            limit::block_io(Dir(&self.needed("blkio")?), io)?;
        }
        if let Some(huge) = resources.hugepage_limits().as_deref().filter(|huge| !huge.is_empty()) {
            limits::hugetlb(Dir(&self.needed("hugetlb")?), huge, "limit_in_bytes")?;
        }
        if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
            limits::rdma(Dir(&self.needed("rdma")?), resources)?;
        }
        if let Some(network) = resources.network() {
            let (class, priorities) = (self.directory("net_cls")?, self.directory("net_prio")?);
            limit::network(class.as_deref().map(Dir), priorities.as_deref().map(Dir), network)?;
        }
        if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
            let message = "unified resources need cgroup version 2, this machine has version 1";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    /// A fresh group has its parent's rules: all of them go, then the exceptions come.
    fn rule_devices(&self, resources: &LinuxResources) -> io::Result<()> {
        let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) else { return Ok(()) };
        let policy = devices::Policy::of_container(rules).map_err(invalid)?;
        let directory = self.needed("devices")?;
        let dir = Dir(&directory);
        let (default, other) =
            if policy.allow_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let exceptions: Vec<String> = policy.exceptions.iter().map(devices::v1_rule).collect();
        dir.write(default, "a")?;
        dir.write_each(other, &exceptions)
    }

    /// Changes the rules of a live group without a moment in which a device that stays allowed is denied.
    fn change_devices(&self, resources: &LinuxResources) -> io::Result<()> {
        let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) else { return Ok(()) };
        let wanted = devices::Policy::of_container(rules).map_err(invalid)?;
        let directory = self.needed("devices")?;
        let dir = Dir(&directory);
        let now = devices::Policy::of_v1_list(&dir.read("devices.list")?);
        if wanted.allow_by_default || now.allow_by_default {
            return self.rule_devices(resources);
        }
        let rest = |of: &devices::Policy, without: &devices::Policy| -> Vec<String> {
            of.exceptions.iter().filter_map(|e| without.missing_from(e)).map(|e| devices::v1_rule(&e)).collect()
        };
        dir.write_each("devices.allow", &rest(&wanted, &now))?;
        dir.write_each("devices.deny", &rest(&now, &wanted))
    }
}

impl Cgroup for Legacy {
    fn create(&self, resources: &LinuxResources) -> io::Result<()> {
        let mut made = Vec::new();
        let result =
            self.make(&mut made).and_then(|()| self.rule_devices(resources)).and_then(|()| self.limit(resources));
        if result.is_err() {
            for directory in made.iter().rev() {
                // The first error is the one to tell.
                let _ = files::remove_tree(directory);
            }
        }
        result
    }

    fn enter(&self) -> io::Result<()> {
        let directories = self.directories()?;
        let Some(entries) = self.entries.get() else {
            return directories.iter().try_for_each(|directory| Dir(directory).write("tasks", 0));
        };
        for (directory, tasks) in directories.iter().zip(entries) {
            rustix::io::retry_on_intr(|| rustix::io::write(tasks, b"0"))
                .map_err(|errno| Dir(directory).describe_write("tasks", "0", errno.into()))?;
        }
        Ok(())
    }

    fn expect_entries(&self) -> io::Result<()> {
        if self.entries.get().is_none() {
            let directories = self.directories()?;
            let opened = directories.iter().map(|directory| Dir(directory).open_for_writing("tasks"));
            // Set meanwhile by another thread: the same files.
            let _ = self.entries.set(opened.collect::<io::Result<_>>()?);
        }
        Ok(())
    }

    fn clone_into_fd(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }

    fn update(&self, resources: &LinuxResources) -> io::Result<()> {
        self.change_devices(resources)?;
        self.limit(resources)
    }

    fn freeze(&self, frozen: bool) -> io::Result<()> {
        let directory = self.needed("freezer")?;
        let (dir, state) = (Dir(&directory), if frozen { "FROZEN" } else { "THAWED" });
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        loop {
            // Processes that fork meanwhile can keep a group in FREEZING; writing again makes the kernel try again.
            dir.write("freezer.state", state)?;
            if dir.read("freezer.state")?.trim() == state {
                return Ok(());
            }
            if Instant::now() >= deadline {
                dir.write("freezer.state", "THAWED")?;
                let message = format!("unable to freeze cgroup {directory:?} within {} s", FREEZE_TIMEOUT.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            sleep(Duration::from_millis(1));
        }
    }

    fn is_frozen(&self) -> io::Result<bool> {
        let Some(directory) = self.directory("freezer")? else { return Ok(false) };
        files::unless_missing(Dir(&directory).read("freezer.state")).map(|state| state.trim() == "FROZEN")
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        files::pids_below(&self.listing()?, &mut pids)?;
        Ok(pids)
    }

    fn oom_kills(&self) -> io::Result<u64> {
        match self.directory("memory")? {
            Some(directory) => {
                let text = Dir(&directory).read("memory.oom_control")?;
                Ok(files::key_values(&text).find(|(key, _)| *key == "oom_kill").map_or(0, |(_, count)| count))
            }
            None => Ok(0),
        }
    }

    fn stats(&self) -> io::Result<Stats> {
        stats::legacy(|controller| self.directory(controller))
    }

    fn kill(&self) -> io::Result<()> {
        // Each round may miss what was forked meanwhile; a fork bomb is frozen first and cannot outrun us.
        let frozen = self.directory("freezer")?.is_some_and(|d| Dir(&d).write("freezer.state", "FROZEN").is_ok());
        let killed = self.pids().map(|pids| files::kill_each(&pids));
        if frozen && let Some(directory) = self.directory("freezer")? {
            Dir(&directory).write("freezer.state", "THAWED")?;
        }
        killed
    }

    fn remove(&self) -> io::Result<()> {
        let mut directories = self.directories()?;
        if let Some(mount) = self.beside {
            directories.push(mount.join(self.relative()?));
        }
        let busy = |directory: &PathBuf| !matches!(rustix::fs::rmdir(directory), Ok(()) | Err(Errno::NOENT));
        // Nearly always everything is gone already and this is all: one rmdir(2) in each hierarchy.
        let left: Vec<&PathBuf> = directories.iter().filter(|directory| busy(directory)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut pids = Vec::new();
        for directory in &left {
            files::pids_below(directory, &mut pids)?;
        }
        if !pids.is_empty() {
            match self.kill() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => files::kill_each(&pids),
            }
        }
        let results: Vec<_> = left.into_iter().map(|directory| files::remove_tree(directory)).collect();
        results.into_iter().collect()
    }

    fn paths(&self) -> Vec<(String, PathBuf)> {
        let Ok(relative) = self.relative() else { return Vec::new() };
        self.hierarchies.iter().map(|h| (h.controllers.join(","), h.mount_point.join(relative))).collect()
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn memory_is_limited(memory: &oci_spec::runtime::LinuxMemory) -> bool {
    let mut rest = *memory;
    rest.set_disable_oom_killer(memory.disable_oom_killer().filter(|&disabled| disabled));
    rest.set_use_hierarchy(None).set_check_before_update(None);
    rest != Default::default()
}

/// Makes a group's directory and its parents; tells whether the directory itself is new.
fn make_directory(mount_point: &Path, directory: &Path, is_cpuset: bool) -> io::Result<bool> {
    let mode = Mode::from_raw_mode(0o755);
    match rustix::fs::mkdir(directory, mode) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::NOENT) if directory != mount_point => {
            let parent = directory.parent().unwrap_or(mount_point);
            if make_directory(mount_point, parent, is_cpuset)? && is_cpuset {
                inherit_cpuset(mount_point, parent)?;
                // What is made below from now on starts with our cpus and mems instead of none (cpuset(7)).
                Dir(parent).write("cgroup.clone_children", 1)?;
            }
            make_directory(mount_point, directory, is_cpuset)
        }
        Err(errno) => {
            let text = errno_text(&errno.into());
            Err(io::Error::new(errno.kind(), format!("failed to make cgroup {directory:?}: {text}")))
        }
    }
}

/// No process can enter a cpuset without cpus and mems: those of the parent are taken where a group has none.
fn inherit_cpuset(mount_point: &Path, directory: &Path) -> io::Result<()> {
    let dir = Dir(directory);
    let is_empty = |file: &str| dir.read(file).map(|text| text.trim().is_empty());
    if !is_empty("cpuset.cpus")? && !is_empty("cpuset.mems")? {
        return Ok(());
    }
    let Some(parent) = directory.parent().filter(|parent| parent.starts_with(mount_point)) else { return Ok(()) };
    inherit_cpuset(mount_point, parent)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if is_empty(file)? {
            dir.write(file, Dir(parent).read(file)?.trim())?;
        }
    }
    Ok(())
}
