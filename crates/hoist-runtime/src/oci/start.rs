//! `start`: gives the word to a created container and waits until its program runs or has failed to.

use std::os::fd::OwnedFd;

use hoist_sys::poll::{Interest, Set};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;

use super::fault::{Fault, Result, Trying};
use super::hooks;
use super::record::{GO, REPORT, Record, Status};

/// Longest failure that is read.
const MAX_REPORT_BYTES: usize = 8 * 1024;

pub(super) fn start(record: &Record) -> Result<()> {
    match record.status()? {
        Status::Created => {}
        Status::Stopped => return Err(Fault::new("cannot start a container that has stopped")),
        Status::Running => return Err(Fault::new("cannot start an already running container")),
        Status::Paused => return Err(Fault::new("cannot start a paused container")),
    }
    if record.config.process().is_none() {
        return Err(Fault::new("cannot start a container without a process in its configuration"));
    }
    // Reader first: init's end is seen by nobody else.
    let report = open(record, REPORT, OFlags::RDONLY)?;
    let go = open(record, GO, OFlags::WRONLY)?;
    // Only one of several starts finds it.
    let unlinked = rustix::fs::unlink(record.directory.join(GO));
    unlinked.map_err(|_| Fault::new("cannot start an already running container"))?;
    rustix::io::write(&go, b"G").trying(|| "give the word to start")?;
    let failure = read_report(&report)?;
    let _ = rustix::fs::unlink(record.directory.join(REPORT));
    if !failure.is_empty() {
        return Err(Fault::new(failure));
    }
    let poststart = record.config.hooks().as_ref().and_then(|all| all.poststart().as_ref());
    hooks::run("poststart", poststart, &record.state("running")).inspect_err(|_| {
        // The specification stops a container whose poststart hook fails.
        let _ = record.cgroup().kill();
    })
}

/// Non-blocking: with nobody at the other end the container is gone.
fn open(record: &Record, name: &str, flags: OFlags) -> Result<OwnedFd> {
    let path = record.directory.join(name);
    rustix::fs::open(&path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .trying(|| format!("open {}", path.display()))
}

/// What init says until its exec, which closes the fifo.
fn read_report(report: &OwnedFd) -> Result<String> {
    let mut text = vec![0; MAX_REPORT_BYTES];
    let mut length = 0;
    let mut set = Set::default();
    loop {
        match rustix::io::read(report, &mut text[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                set.clear();
                set.add(report.as_fd(), Interest::Read);
                set.wait(None).trying(|| "wait for the program")?;
            }
            Err(error) => return Err(error).trying(|| "read init's report"),
        }
    }
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}
