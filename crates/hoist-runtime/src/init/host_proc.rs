//! The host's /proc, opened before a mount namespace is joined: what is at /proc there may be anything. The same fd serves
//! a process in any namespace below, because `self` and `sys` mean what they mean to whoever looks.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::failure::{OrFail, Result};
use crate::protocol::Failure;

/// Filesystem magic of procfs (statfs(2)).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// The directory /proc.
#[derive(Debug)]
pub(crate) struct HostProc(OwnedFd);

impl HostProc {
    /// To be called while the host's mounts are in sight.
    pub(crate) fn open() -> Result<HostProc> {
        let directory =
            super::open_host(Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY).or_fail(|| "open /proc")?;
        if is_proc(directory.as_fd()).or_fail(|| "statfs /proc")? {
            Ok(HostProc(directory))
        } else {
            Err(Failure::other("/proc is not of type proc"))
        }
    }

    /// Opens what is at a path below /proc, if it really is a part of it.
    pub(crate) fn open_at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let opened = rustix::fs::openat(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty())?;
        if is_proc(opened.as_fd())? { Ok(opened) } else { Err(Errno::XDEV.into()) }
    }

    /// Writes a file below /proc at once.
    pub(crate) fn write(&self, path: &str, content: &str) -> io::Result<()> {
        File::from(self.open_at(path, OFlags::WRONLY)?).write_all(content.as_bytes())
    }

    /// The id by which the host knows the calling process.
    pub(crate) fn own_pid(&self) -> io::Result<Option<i32>> {
        let pid = rustix::fs::readlinkat(&self.0, "self", Vec::new())?;
        Ok(std::str::from_utf8(pid.as_bytes()).ok().and_then(|pid| pid.parse().ok()))
    }
}

/// Whether something is a part of a procfs.
pub(super) fn is_proc(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == PROC_SUPER_MAGIC)
}
