//! Supervisors forked before they are needed: each waits, with a kit of what every container needs, for a launch. The engine
//! gets the other ends of their sockets and hands launches to them itself, without waking the spawner first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoist_sys::namespace::Namespaces;
use hoist_sys::process::{self, Cloned};
use hoist_sys::socket;
use rustix::net::{SendFlags, SocketFlags};

use super::PARKED_ONE;

/// They are replaced once there was no launch for this long: making one would slow the next launch down.
const QUIET_MS: i32 = 15;

/// How many wait, by the count of those that were handed out and taken.
pub(super) struct Parking {
    places: usize,
    parked: usize,
}

impl Parking {
    pub(super) fn new(places: usize) -> Parking {
        Parking { places, parked: 0 }
    }

    /// When to call [`Parking::refill`]; `None`: all places are taken.
    pub(super) fn refill_in_ms(&self) -> Option<i32> {
        (self.parked < self.places).then_some(QUIET_MS)
    }

    /// The engine has taken this many.
    pub(super) fn taken(&mut self, count: usize) {
        self.parked = self.parked.saturating_sub(count);
    }

    /// Forks one more and gives the engine the way to it. In the child its end of the socket is returned.
    pub(super) fn refill(&mut self, engine: BorrowedFd<'_>) -> Option<OwnedFd> {
        self.refill_in_ms()?;
        let (own, theirs) = socket::pair(SocketFlags::empty()).ok()?;
        match process::clone(Namespaces::default(), None) {
            // They end when the engine does: nobody else may hold its ends.
            Ok(Cloned::Child) => Some(theirs),
            Ok(Cloned::Parent { .. }) => {
                let sent = socket::send(engine, PARKED_ONE, &[own.as_fd()], SendFlags::DONTWAIT);
                self.parked += usize::from(sent.is_ok());
                None
            }
            // A launch finds the place empty, and is forked for when it comes; that tells what is wrong.
            Err(_) => None,
        }
    }
}
