//! Watches for the kernel's OOM killer in the container's control group.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use hoist_sys::poll::{Interest, Set};
use rustix::event::EventfdFlags;

use crate::cgroup;

/// Something to poll for.
pub(super) enum Watch {
    /// cgroup v2: `memory.events` changes.
    Events(File),
    /// cgroup v1: an eventfd bound to `memory.oom_control`.
    Eventfd(OwnedFd),
}

impl Watch {
    /// `None` when the group has no memory controller; then the end of the container still tells.
    pub(super) fn new(path: &Path) -> Option<Watch> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        if let Some(mount) = cgroup::unified_mount() {
            let mut events = File::open(mount.join(relative).join("memory.events")).ok()?;
            // Only changes after a read are told.
            events.read_to_end(&mut Vec::new()).ok()?;
            return Some(Watch::Events(events));
        }
        let is_memory = |hierarchy: &&cgroup::Hierarchy| hierarchy.controllers.iter().any(|name| name == "memory");
        let group = cgroup::hierarchies().iter().find(is_memory)?.mount_point.join(relative);
        let control = File::open(group.join("memory.oom_control")).ok()?;
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        let mut register = OpenOptions::new().write(true).open(group.join("cgroup.event_control")).ok()?;
        register.write_all(format!("{} {}", eventfd.as_raw_fd(), control.as_raw_fd()).as_bytes()).ok()?;
        Some(Watch::Eventfd(eventfd))
    }

    pub(super) fn register(&self, set: &mut Set) -> usize {
        match self {
            Watch::Events(file) => set.add(file.as_fd(), Interest::Priority),
            Watch::Eventfd(fd) => set.add(fd.as_fd(), Interest::Read),
        }
    }

    /// Takes note of what was told.
    pub(super) fn consume(&mut self) {
        let mut buffer = [0; 512];
        match self {
            Watch::Events(file) => {
                let _ = file.rewind();
                while file.read(&mut buffer).is_ok_and(|length| length > 0) {}
            }
            Watch::Eventfd(fd) => {
                let _ = rustix::io::read(fd, &mut buffer[..8]);
            }
        }
    }
}
