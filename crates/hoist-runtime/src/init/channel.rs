//! The socket between a supervisor and a process that it prepares: reports one way, words to go on the other way. It is
//! close-on-exec; its end without a report of failure says that the program runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoist_sys::socket;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use crate::failure::{OrFail, Result};
use crate::protocol::{Failure, FailureKind};

/// Number of phases in a report.
pub(crate) const PHASES: usize = 4;
/// Longest report; a failure's text is cut to fit.
const MAX_REPORT_BYTES: usize = 8 * 1024;

const PREPARED: u8 = b'P';
const TERMINAL: u8 = b'T';
const FAILED: u8 = b'F';
const CGROUP: u8 = b'C';
const NETWORK: u8 = b'N';
const GO: u8 = b'G';
const MAPPED: u8 = b'M';

/// What the child reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// Everything but exec is done; how long that took, in nanoseconds.
    Prepared([u64; PHASES]),
    /// The master side of the terminal.
    Terminal(OwnedFd),
    Failed(Failure),
}

/// The supervisor's end, non-blocking.
#[derive(Debug)]
pub(crate) struct ParentChannel(OwnedFd);

/// The child's end, blocking.
#[derive(Debug)]
pub(crate) struct ChildChannel(OwnedFd);

pub(crate) fn pair() -> std::io::Result<(ParentChannel, ChildChannel)> {
    let (parent, child) = socket::pair(SocketFlags::empty())?;
    Ok((ParentChannel(parent), ChildChannel(child)))
}

impl ParentChannel {
    /// The next report; `WouldBlock` when there is none yet, `None` at the end.
    pub(crate) fn receive(&self) -> std::io::Result<Option<Report>> {
        let mut buffer = [0; MAX_REPORT_BYTES];
        let (length, mut fds) = match socket::receive(self.0.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
            // The child died with words of ours unread; its last words come after this error.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                socket::receive(self.0.as_fd(), &mut buffer, RecvFlags::DONTWAIT)?
            }
            result => result?,
        };
        let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidData, "unknown report from init");
        match &buffer[..length] {
            [] => Ok(None),
            [PREPARED, times @ ..] => {
                let mut phases = [0; PHASES];
                for (phase, time) in phases.iter_mut().zip(times.chunks_exact(8)) {
                    *phase = u64::from_ne_bytes(time.try_into().unwrap_or_default());
                }
                Ok(Some(Report::Prepared(phases)))
            }
            [TERMINAL] => fds.pop().map(|fd| Some(Report::Terminal(fd))).ok_or_else(invalid),
            [FAILED, kind, message @ ..] => {
                let kind = match kind {
                    b'n' => FailureKind::NotFound,
                    b'x' => FailureKind::NotExecutable,
                    _ => FailureKind::Other,
                };
                Ok(Some(Report::Failed(Failure { kind, message: String::from_utf8_lossy(message).into_owned() })))
            }
            _ => Err(invalid()),
        }
    }

    /// The control groups are there to be entered.
    pub(crate) fn cgroup_is_ready(&self) -> std::io::Result<()> {
        socket::send(self.0.as_fd(), &[CGROUP], &[], SendFlags::DONTWAIT)
    }

    pub(crate) fn network_is_ready(&self) -> std::io::Result<()> {
        socket::send(self.0.as_fd(), &[NETWORK], &[], SendFlags::DONTWAIT)
    }

    pub(crate) fn maps_are_written(&self) -> std::io::Result<()> {
        socket::send(self.0.as_fd(), &[MAPPED], &[], SendFlags::DONTWAIT)
    }

    pub(crate) fn go(&self) -> std::io::Result<()> {
        socket::send(self.0.as_fd(), &[GO], &[], SendFlags::DONTWAIT)
    }
}

impl AsFd for ParentChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ChildChannel {
    pub(crate) fn failed(&self, failure: &Failure) {
        let kind = match failure.kind {
            FailureKind::NotFound => b'n',
            FailureKind::NotExecutable => b'x',
            FailureKind::Other => b'o',
        };
        let mut report = vec![FAILED, kind];
        report.extend(failure.message.bytes().take(MAX_REPORT_BYTES - 2));
        // Nobody is left to tell if this fails.
        let _ = socket::send(self.0.as_fd(), &report, &[], SendFlags::empty());
    }

    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> Result<()> {
        socket::send(self.0.as_fd(), &[TERMINAL], &[master], SendFlags::empty()).or_fail(|| "send terminal")
    }

    pub(crate) fn prepared(&self, phases: [u64; PHASES]) -> Result<()> {
        let mut report = [0; 1 + 8 * PHASES];
        report[0] = PREPARED;
        for (place, phase) in report[1..].chunks_exact_mut(8).zip(phases) {
            place.copy_from_slice(&phase.to_ne_bytes());
        }
        socket::send(self.0.as_fd(), &report, &[], SendFlags::empty()).or_fail(|| "report to supervisor")
    }

    pub(crate) fn wait_for_cgroup(&self) -> Result<()> {
        self.wait_for(CGROUP)
    }

    /// Waits for the supervisor's word about the network, if it is still pending.
    pub(crate) fn wait_for_network(&self, pending: &mut bool) -> Result<()> {
        if std::mem::take(pending) {
            self.wait_for(NETWORK)?;
        }
        Ok(())
    }

    /// Waits until everything is set that a process in another user namespace cannot set, as the maps of a new one.
    pub(crate) fn wait_for_maps(&self) -> Result<()> {
        self.wait_for(MAPPED)
    }

    pub(crate) fn wait_for_go(&self) -> Result<()> {
        self.wait_for(GO)
    }

    /// read(2), because a seccomp filter may be in force that knows no socket calls.
    fn wait_for(&self, word: u8) -> Result<()> {
        let mut buffer = [0; 1];
        let length =
            rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut buffer)).or_fail(|| "wait for supervisor")?;
        check_word(&buffer[..length], word)
    }
}

fn check_word(received: &[u8], expected: u8) -> Result<()> {
    match received {
        [word] if *word == expected => Ok(()),
        [] => Err(Failure::other("start was given up")),
        _ => Err(Failure::other("unexpected word from supervisor")),
    }
}

impl AsFd for ChildChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
