//! The engine's end of a control connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use hoist_sys::poll::{Interest, Set};
use hoist_sys::socket;
use rustix::net::{RecvFlags, SendFlags};

use super::TAKEN_ONE;
use crate::memory_file;
use crate::protocol::{FromSupervisor, MAX_FILE_BYTES, MAX_MESSAGE_BYTES, SOCKET_NAME, ToSupervisor};

/// The first version of the protocol with [`ToSupervisor::InFile`].
const HAS_IN_FILE: u32 = 2;
const SEND_TIMEOUT_MS: i32 = 1000;

/// A control connection to a supervisor: a non-blocking `SOCK_SEQPACKET` socket that the engine polls (AsFd).
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    /// The version that the supervisor speaks; 0 until it has greeted.
    version: AtomicU32,
    /// Until the container's program runs.
    taken: Mutex<Option<Taken>>,
}

/// Supervisors that wait no longer: when this is dropped the spawner hears of it, and makes others. Not before the start is
/// over, which that would slow down.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) spawner: OwnedFd,
    pub(super) count: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        // A spawner that is gone parks no more.
        let _ = socket::send(self.spawner.as_fd(), &vec![TAKEN_ONE; self.count], &[], SendFlags::DONTWAIT);
    }
}

impl Link {
    pub(super) fn new(socket: OwnedFd, taken: Option<Taken>) -> Link {
        Link { socket, version: AtomicU32::new(0), taken: Mutex::new(taken) }
    }

    /// Connects to the supervisor of an earlier engine. `ConnectionRefused` or `NotFound`: it has ended, see `exit.json`.
    pub fn connect(run_dir: &Path) -> io::Result<Link> {
        socket::connect(run_dir, SOCKET_NAME).map(|socket| Link::new(socket, None))
    }

    /// Sends one message with fds; waits up to a second if the supervisor is not reading. `InvalidInput`: it is too long, or
    /// too long for a supervisor of an earlier release.
    pub fn send(&self, message: &ToSupervisor, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() <= MAX_MESSAGE_BYTES {
            return self.send_bytes(&bytes, fds);
        }
        if bytes.len() > MAX_FILE_BYTES || self.version.load(Ordering::Relaxed) < HAS_IN_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message to the supervisor is too long"));
        }
        let file = memory_file::write(&bytes)?;
        let fds: Vec<BorrowedFd<'_>> = [file.as_fd()].into_iter().chain(fds.iter().copied()).collect();
        self.send_bytes(&serde_json::to_vec(&ToSupervisor::InFile)?, &fds)
    }

    fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        match socket::send(self.socket.as_fd(), bytes, fds, SendFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        let mut set = Set::default();
        set.add(self.socket.as_fd(), Interest::Write);
        if set.wait(Some(SEND_TIMEOUT_MS))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "supervisor does not read its messages"));
        }
        socket::send(self.socket.as_fd(), bytes, fds, SendFlags::DONTWAIT)
    }

    /// The next message; `WouldBlock` if there is none, `Ok(None)` at the supervisor's end. Messages of a newer release
    /// that this one does not know are skipped.
    pub fn receive(&self) -> io::Result<Option<FromSupervisor>> {
        loop {
            let length = match socket::next_length(self.socket.as_fd()) {
                // The supervisor ended with messages of ours unread; its last words come after this error.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                result => result?,
            };
            if length == 0 {
                return Ok(None);
            }
            let mut message = vec![0; length];
            socket::receive(self.socket.as_fd(), &mut message, RecvFlags::DONTWAIT)?;
            if let Ok(message) = serde_json::from_slice(&message) {
                match &message {
                    FromSupervisor::Hello { version, .. } => self.version.store(*version, Ordering::Relaxed),
                    _ => drop(self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()),
                }
                return Ok(Some(message));
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
