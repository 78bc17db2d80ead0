//! Supervisors forked before they are needed: each waits, with a kit of what every container needs, for a launch.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoist_sys::namespace::Namespaces;
use hoist_sys::process::{self, Cloned};
use hoist_sys::socket;
use rustix::net::{SendFlags, SocketFlags};

/// They are replaced once there was no launch for this long: making one would slow the next launch down.
const QUIET_MS: i32 = 15;

/// The waiting ones, by our ends of their sockets.
pub(super) struct Parking {
    places: usize,
    parked: VecDeque<OwnedFd>,
}

impl Parking {
    pub(super) fn new(places: usize) -> Parking {
        Parking { places, parked: VecDeque::new() }
    }

    /// When to call [`Parking::refill`]; `None`: all places are taken.
    pub(super) fn refill_in_ms(&self) -> Option<i32> {
        (self.parked.len() < self.places).then_some(QUIET_MS)
    }

    /// Forks one more. In the child its end of the socket is returned.
    pub(super) fn refill(&mut self) -> Option<OwnedFd> {
        self.refill_in_ms()?;
        let (own, theirs) = socket::pair(SocketFlags::empty()).ok()?;
        match process::clone(Namespaces::default(), None) {
            Ok(Cloned::Child) => {
                // They end when our ends do: nobody else may hold those.
                self.parked.clear();
                Some(theirs)
            }
            Ok(Cloned::Parent { .. }) => {
                self.parked.push_back(own);
                None
            }
            // A launch finds the place empty, forks for itself and tells what is wrong.
            Err(_) => None,
        }
    }

    /// Gives a launch to one of them. False: none is there to take it.
    pub(super) fn hand_over(&mut self, payload: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        while let Some(parked) = self.parked.pop_front() {
            if socket::send(parked.as_fd(), payload, fds, SendFlags::DONTWAIT).is_ok() {
                return true;
            }
        }
        false
    }

    /// In a fork of the spawner: lets go of all of them.
    pub(super) fn forget(&mut self) {
        self.parked.clear();
    }
}
