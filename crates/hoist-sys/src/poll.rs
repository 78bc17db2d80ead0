//! poll(2) over a set that is rebuilt before each wait and keeps its memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    ReadWrite,
    /// Changes of kernel files (cgroup v2's `*.events`).
    Priority,
    /// Only errors and hang-ups, which are always told.
    Hangup,
}

/// What happened to one fd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    pub read: bool,
    pub write: bool,
    /// POLLHUP, POLLERR or POLLNVAL.
    pub hangup: bool,
}

impl Ready {
    pub fn any(self) -> bool {
        self.read || self.write || self.hangup
    }
}

/// The fds of one wait.
#[derive(Default)]
pub struct Set {
    entries: Vec<libc::pollfd>,
}

impl Set {
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Adds an fd; the index is for [`Set::ready`].
    pub fn add(&mut self, fd: BorrowedFd<'_>, interest: Interest) -> usize {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
            Interest::ReadWrite => libc::POLLIN | libc::POLLOUT,
            Interest::Priority => libc::POLLPRI,
            Interest::Hangup => 0,
        };
        self.entries.push(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
        self.entries.len() - 1
    }

    /// Waits until something happens or the time is over (`None`: no limit). An interruption reads as nothing happened.
    pub fn wait(&mut self, timeout_ms: Option<i32>) -> io::Result<usize> {
        let count = self.entries.len() as libc::nfds_t;
        // SAFETY: pointer and count describe `entries`; a closed fd is answered with POLLNVAL.
        match unsafe { libc::poll(self.entries.as_mut_ptr(), count, timeout_ms.unwrap_or(-1)) } {
            -1 => {
                let error = io::Error::last_os_error();
                for entry in &mut self.entries {
                    entry.revents = 0;
                }
                if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
            }
            happened => Ok(happened as usize),
        }
    }

    /// What happened to the fd at this index; nothing when there is no such index.
    pub fn ready(&self, index: usize) -> Ready {
        let events = self.entries.get(index).map_or(0, |entry| entry.revents);
        Ready {
            read: events & (libc::POLLIN | libc::POLLPRI) != 0,
            write: events & libc::POLLOUT != 0,
            hangup: events & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0,
        }
    }
}
