//! Sets of namespaces(7), and joining them with setns(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::syscall;

/// A set of namespace kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(u32);

impl Namespaces {
    /// What is mounted where.
    pub const MOUNT: Namespaces = Namespaces(libc::CLONE_NEWNS as u32);
    /// What control groups look like from inside.
    pub const CGROUP: Namespaces = Namespaces(libc::CLONE_NEWCGROUP as u32);
    /// Host and domain name.
    pub const UTS: Namespaces = Namespaces(libc::CLONE_NEWUTS as u32);
    /// System V IPC and POSIX message queues.
    pub const IPC: Namespaces = Namespaces(libc::CLONE_NEWIPC as u32);
    /// Users, groups and capabilities.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER as u32);
    /// Process ids.
    pub const PID: Namespaces = Namespaces(libc::CLONE_NEWPID as u32);
    /// Offsets of the monotonic and the boot-time clock.
    pub const TIME: Namespaces = Namespaces(0x80);
    /// Devices, addresses, routes, sockets.
    pub const NETWORK: Namespaces = Namespaces(libc::CLONE_NEWNET as u32);

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Namespaces) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets.
    pub const fn with(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }

    /// The set without `other`.
    pub const fn without(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 & !other.0)
    }
}

impl std::ops::BitOr for Namespaces {
    type Output = Namespaces;

    fn bitor(self, other: Namespaces) -> Namespaces {
        self.with(other)
    }
}

impl std::ops::BitOrAssign for Namespaces {
    fn bitor_assign(&mut self, other: Namespaces) {
        self.0 |= other.0;
    }
}

/// Joins namespaces: `fd` is a namespace file and `which` its kind, or `fd` is a pidfd and `which` any set of the
/// process's namespaces (kernel 5.8). A joined pid namespace is that of children, not of the caller.
pub fn join(fd: BorrowedFd<'_>, which: Namespaces) -> io::Result<()> {
    // SAFETY: setns(2) takes no pointers.
    syscall::check(unsafe { libc::setns(fd.as_raw_fd(), which.0 as i32) }).map(drop)
}

/// Leaves the shared namespaces for new ones; a new pid namespace is that of children. For single-threaded processes.
pub fn unshare(which: Namespaces) -> io::Result<()> {
    // SAFETY: unshare(2) with namespace flags touches no memory and no fd table.
    syscall::check(unsafe { libc::unshare(which.0 as i32) }).map(drop)
}
