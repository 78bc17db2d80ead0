//! Engine side: the handle on the spawner process and on supervisors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::io;

use crate::launch::Launch;
use crate::protocol::{FromSupervisor, ToSupervisor};

/// The handle on the spawner process. Blocking, cheap, thread-safe.
#[derive(Debug)]
pub struct Spawner {}

impl Spawner {
    /// Forks the spawner. Must be called before the process has a second thread.
    pub fn start() -> io::Result<Spawner> { todo!() }
    /// Asks the spawner to fork a supervisor for `launch`; returns its control connection at once, while the supervisor
    /// prepares the container. If the spawner died, another one is started by exec of /proc/self/exe.
    pub fn launch(&self, launch: &Launch) -> io::Result<Link> { let _ = launch; todo!() }
}

/// A control connection to a supervisor: a non-blocking `SOCK_SEQPACKET` socket that the engine polls (AsFd).
#[derive(Debug)]
pub struct Link { socket: OwnedFd }

impl Link {
    /// Connects to the supervisor of an earlier engine. `ConnectionRefused` or `NotFound`: it has ended, see `exit.json`.
    pub fn connect(run_dir: &Path) -> io::Result<Link> { let _ = run_dir; todo!() }
    /// Sends one message with fds; waits up to a second if the supervisor is not reading.
    pub fn send(&self, message: &ToSupervisor, fds: &[BorrowedFd<'_>]) -> io::Result<()> { let _ = (message, fds); todo!() }
    /// The next message; `WouldBlock` if there is none, `Ok(None)` at the supervisor's end. Messages of a newer release that
    /// this one does not know are skipped.
    pub fn receive(&self) -> io::Result<Option<FromSupervisor>> { todo!() }
}

impl AsFd for Link { fn as_fd(&self) -> BorrowedFd<'_> { self.socket.as_fd() } }
