//! Inside the spawner process: park supervisors for launches to come, and fork one for each launch that found none parked.
//! Nothing else; it keeps no record of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use hoist_sys::namespace::Namespaces;
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::{signal, socket};
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvFlags, SendFlags};

use super::parking::Parking;
use super::{ARGUMENT, MAX_INLINE_BYTES, READY};
use crate::memory_file;
use crate::supervisor::{self, Readiness};

/// Longest launch, in bytes: what an engine takes as a request, and the rest of a spec.
const MAX_LAUNCH_BYTES: usize = 64 * 1024 * 1024;

/// Becomes the spawner, and does not return, if this process was started as one. To be called first in `main`.
pub fn spawner_main_if_requested() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == ARGUMENT)
        && let Some(parked) = arguments.next().and_then(|count| count.to_str()?.parse().ok())
    {
        let status = match serve(parked) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(%error, "spawner ends");
                1
            }
        };
        process::exit_now(status);
    }
}

fn serve(parked: usize) -> io::Result<()> {
    let _ = rustix::thread::set_name(c"hoist-spawner");
    process::set_undumpable()?;
    // Interrupting the engine's terminal must not reach us: the engine decides, by closing the socket.
    rustix::process::setsid()?;
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    drop(null);
    hoist_sys::fd::close_all_except(3, &mut [socket.as_raw_fd().unsigned_abs()])?;
    // Every process of every container inherits this. Rust ignores SIGPIPE, and exec would keep it ignored.
    signal::reset_dispositions();
    // Supervisors have buffers that many containers never use.
    process::map_large_allocations();
    // Asked for once, known to all supervisors.
    let _ = crate::cgroup::version();
    // Supervisors are reaped by the kernel; nobody asks for their status.
    signal::ignore(signal::CHILD)?;
    socket::send(socket.as_fd(), READY, &[], SendFlags::empty())?;
    let mut buffer = vec![0; MAX_INLINE_BYTES];
    let (mut parking, mut set) = (Parking::new(parked), Set::default());
    loop {
        set.clear();
        set.add(socket.as_fd(), Interest::Read);
        if set.wait(parking.refill_in_ms())? == 0 {
            if let Some(launches) = parking.refill(socket.as_fd()) {
                drop(socket);
                wait_parked(launches, &mut buffer)
            }
            continue;
        }
        let (length, fds) = socket::receive(socket.as_fd(), &mut buffer, RecvFlags::empty())?;
        if length == 0 {
            return Ok(());
        }
        if fds.is_empty() {
            parking.taken(buffer[..length].len());
            continue;
        }
        match process::clone(Namespaces::default(), None) {
            Ok(Cloned::Child) => {
                drop(socket);
                supervise(fds, &buffer[..length], Readiness::at_once())
            }
            Ok(Cloned::Parent { .. }) => {}
            // The engine sees the connection end without a word, which it takes for a failed start.
            Err(error) => tracing::error!(%error, "fork supervisor"),
        }
    }
}

/// A parked supervisor: makes ready what it can, and waits for its launch.
fn wait_parked(launches: OwnedFd, buffer: &mut [u8]) -> ! {
    let readiness = Readiness::early();
    let received = socket::receive(launches.as_fd(), buffer, RecvFlags::empty());
    drop(launches);
    match received {
        Ok((length, fds)) if length > 0 => supervise(fds, &buffer[..length], readiness),
        // The engine has ended.
        _ => process::exit_now(0),
    }
}

/// The first fd is the engine's connection, the second the launch if it was too long for a message.
fn supervise(fds: Vec<OwnedFd>, inline: &[u8], readiness: Readiness) -> ! {
    let mut fds = fds.into_iter();
    let Some(control) = fds.next() else { process::exit_now(1) };
    match fds.next().map(|file| memory_file::read(file, MAX_LAUNCH_BYTES)).transpose() {
        Ok(payload) => supervisor::run(control, payload.as_deref().unwrap_or(inline), readiness),
        Err(_) => process::exit_now(1),
    }
}
