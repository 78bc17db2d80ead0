//! Engine side: the handle on the spawner process, and control connections to supervisors.
//!
//! A launch goes straight to a supervisor that waits for one, if there is any, else to the spawner.
//!
//! The spawner is this program, executed once more from a form of its file that no container can write to (`sealed.rs`).
//! It is small, single-threaded and holds nothing but its socket.

mod link;
mod parking;
mod process;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use hoist_sys::poll::{Interest, Set};
use hoist_sys::socket;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use crate::launch::Launch;
use crate::{memory_file, sealed};

pub use link::Link;
use link::Taken;
pub use process::spawner_main_if_requested;

/// First argument of a process that is to be the spawner.
const ARGUMENT: &str = "__hoist-spawner";
/// Launches that are larger travel in a memfd.
const MAX_INLINE_BYTES: usize = 96 * 1024;
/// How many supervisors usually wait for launches: containers often come in twos and threes, and one that waits is a process
/// and a network namespace.
const PARKED: usize = 2;
/// A spawner says this once it is ready.
const READY: &[u8] = b"ready";
const READY_TIMEOUT_MS: i32 = 10_000;
/// A spawner says this with the engine's end of the socket to a supervisor that waits.
const PARKED_ONE: &[u8] = b"parked";
/// The engine says this, once for each, of supervisors that wait no longer.
const TAKEN_ONE: u8 = b't';

/// The handle on the spawner process. Blocking, cheap, thread-safe.
#[derive(Debug)]
pub struct Spawner {
    running: Mutex<Running>,
    parked: usize,
}

#[derive(Debug)]
struct Running {
    child: Child,
    socket: OwnedFd,
    /// The ways to supervisors that wait for a launch.
    parked: VecDeque<OwnedFd>,
}

impl Spawner {
    /// Starts the spawner and waits until it is ready. The program's `main` must call [`spawner_main_if_requested`]
    /// before anything else.
    pub fn start() -> io::Result<Spawner> {
        Spawner::start_with(PARKED)
    }

    /// With this many supervisors waiting for launches; 0: each is made when it is asked for.
    pub fn start_with(parked: usize) -> io::Result<Spawner> {
        Ok(Spawner { running: Mutex::new(Running::start(parked)?), parked })
    }

    /// Gives `launch` to a supervisor; returns its control connection at once, while the supervisor prepares the container.
    /// If the spawner is needed and died, another one is started.
    pub fn launch(&self, launch: &Launch) -> io::Result<Link> {
        let payload = serde_json::to_vec(launch)?;
        let (own, control) = socket::pair(SocketFlags::NONBLOCK)?;
        let memfd = if payload.len() > MAX_INLINE_BYTES { Some(memory_file::write(&payload)?) } else { None };
        let inline: &[u8] = if memfd.is_some() { b"memfd" } else { &payload };
        let fds: Vec<BorrowedFd<'_>> = [control.as_fd()].into_iter().chain(memfd.iter().map(AsFd::as_fd)).collect();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_sent, taken) = running.hand_over(inline, &fds);
        if !is_sent && running.send(inline, &fds).is_err() {
            *running = Running::start(self.parked)?;
            running.send(inline, &fds)?;
        }
        Ok(Link::new(own, taken))
    }

    /// Pid of the spawner process, for diagnostics.
    pub fn pid(&self) -> u32 {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).child.id()
    }
}

impl Running {
    fn start(parked: usize) -> io::Result<Running> {
        let (own, theirs) = socket::pair(SocketFlags::empty())?;
        let program = sealed::own_program()?;
        let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0("hoist-spawner")
            .arg(ARGUMENT)
            .arg(parked.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("start spawner: {error}")))?;
        let mut running = Running { child, socket: own, parked: VecDeque::new() };
        match running.wait_until_ready() {
            Ok(()) => Ok(running),
            Err(error) => {
                let _ = running.child.kill();
                let _ = running.child.wait();
                Err(error)
            }
        }
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let mut set = Set::default();
        set.add(self.socket.as_fd(), Interest::Read);
        set.wait(Some(READY_TIMEOUT_MS))?;
        let mut buffer = [0; 16];
        let (length, _) = socket::receive(self.socket.as_fd(), &mut buffer, RecvFlags::DONTWAIT)
            .map_err(|error| io::Error::new(error.kind(), format!("spawner did not become ready: {error}")))?;
        if &buffer[..length] == READY { Ok(()) } else { Err(io::Error::other("spawner ended at once")) }
    }

    /// Gives a launch to a supervisor that waits, if one is there to take it, and tells which are no longer there.
    fn hand_over(&mut self, payload: &[u8], fds: &[BorrowedFd<'_>]) -> (bool, Option<Taken>) {
        self.receive_parked();
        let (mut is_sent, mut count) = (false, 0);
        while !is_sent && let Some(parked) = self.parked.pop_front() {
            count += 1;
            // One that has died does not take it.
            is_sent = socket::send(parked.as_fd(), payload, fds, SendFlags::DONTWAIT).is_ok();
        }
        let spawner = if count > 0 { self.socket.try_clone().ok() } else { None };
        (is_sent, spawner.map(|spawner| Taken { spawner, count }))
    }

    fn receive_parked(&mut self) {
        let mut word = [0; PARKED_ONE.len()];
        while let Ok((1.., fds)) = socket::receive(self.socket.as_fd(), &mut word, RecvFlags::DONTWAIT) {
            self.parked.extend(fds);
        }
    }

    fn send(&mut self, payload: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        // A dead one would only be noticed by a closed socket, which an orphan of it could keep open.
        if self.child.try_wait()?.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        socket::send(self.socket.as_fd(), payload, fds, SendFlags::empty())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The spawner ends when its socket does; here it only has to be reaped.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}
