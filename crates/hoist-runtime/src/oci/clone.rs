//! Cloning a container's init when its namespaces are not all to be had by the clone itself. A process between us and init
//! then joins and unshares them and clones init as our child: nobody comes back from another user namespace.
//!
//! ```text
//! create ── fork ──> between: joins network, …, mount, user; unshares time, sets its clocks
//!    │                  └─ clone3(CLONE_PARENT) ──> init        between tells init's pid and ends
//!    └─ writes the maps of a new user namespace, then lets init go on
//! ```

use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};

use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::process::{self, Cloned, Forked};
use hoist_sys::socket;
use oci_spec::runtime::Linux;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use rustix::process::{Pid, PidfdFlags};

use super::fault::{Fault, Result, Trying};
use super::{create, user_namespace};
use crate::cgroup::Cgroup;
use crate::failure::{self, OrFail};
use crate::supervisor::namespaces::{Plan, User};

/// Longest word of the process between.
const MAX_WORD_BYTES: usize = 4096;

/// The container's control group, and its directory if a process can be cloned into it.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) cgroup: Option<&'a dyn Cgroup>,
    pub(super) fd: Option<&'a OwnedFd>,
}

/// Clones init with the plan's namespaces. Those that it has still to join by itself stay in the plan.
pub(super) fn clone_init(plan: &mut Plan, linux: &Linux, group: Group<'_>) -> Result<Cloned> {
    let offsets = clock_offsets(linux, plan.new_time)?;
    if plan.user == User::Own && !plan.new_time {
        return create::clone_in_pid_namespace(plan.join_pid.as_ref(), plan.created, group.fd);
    }
    // Processes of a namespace that is joined must not look into us.
    process::set_undumpable().trying(|| "prctl PR_SET_DUMPABLE")?;
    let (own, theirs) = socket::pair(SocketFlags::empty()).trying(|| "make socket for clone")?;
    let between = match process::fork().trying(|| "fork")? {
        Forked::Parent { pid } => pid,
        Forked::Child => {
            drop(own);
            return match enter_and_clone(plan, offsets.as_deref(), group) {
                Ok(Cloned::Child) => {
                    plan.join.clear();
                    Ok(Cloned::Child)
                }
                Ok(Cloned::Parent { pid, .. }) => end_between(&theirs, &[b"P".as_slice(), &pid.to_ne_bytes()].concat()),
                Err(failure) => end_between(&theirs, failure.message.as_bytes()),
            };
        }
    };
    drop(theirs);
    let mut word = [0; MAX_WORD_BYTES];
    let received = socket::receive(own.as_fd(), &mut word, RecvFlags::empty());
    process::wait(between).trying(|| "wait for clone")?;
    let (length, _) = received.trying(|| "hear of clone")?;
    let pid = match &word[..length] {
        [b'P', pid @ ..] => pid.try_into().ok().map(i32::from_ne_bytes).and_then(Pid::from_raw),
        message => return Err(Fault::new(String::from_utf8_lossy(message).into_owned())),
    };
    let pid = pid.ok_or_else(|| Fault::new("clone init: no process id came back"))?;
    // It is our child, so the number is still its own.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).trying(|| "pidfd_open")?;
    Ok(Cloned::Parent { pid: pid.as_raw_nonzero().get(), pidfd })
}

fn end_between(socket: &OwnedFd, word: &[u8]) -> ! {
    let _ = socket::send(socket.as_fd(), &word[..word.len().min(MAX_WORD_BYTES)], &[], SendFlags::empty());
    process::exit_now(0)
}

/// In the process between.
fn enter_and_clone(plan: &Plan, offsets: Option<&str>, group: Group<'_>) -> failure::Result<Cloned> {
    if let Some(offsets) = offsets {
        namespace::unshare(Namespaces::TIME).or_fail(|| "unshare time namespace")?;
        if !offsets.is_empty() {
            std::fs::write("/proc/self/timens_offsets", offsets).or_fail(|| "write timens_offsets")?;
        }
    }
    // Out of a cgroup namespace that is joined the group may not be in reach; then init inherits it from us.
    let mut into = group.fd;
    if let (Some(cgroup), true) = (group.cgroup, plan.join.iter().any(|(kind, _)| *kind == Namespaces::CGROUP))
        && into.take().is_some()
    {
        cgroup.enter().or_fail(|| "unable to apply cgroup configuration")?;
    }
    if let Some(target) = &plan.join_pid {
        namespace::join(target.as_fd(), Namespaces::PID).or_fail(|| "join pid namespace")?;
    }
    for (kind, fd) in &plan.join {
        namespace::join(fd.as_fd(), *kind).or_fail(|| "join namespace")?;
    }
    process::clone_for_parent(plan.created, into.map(AsFd::as_fd)).or_fail(|| "clone init")
}

/// The lines for `timens_offsets`; `None` without a new time namespace.
fn clock_offsets(linux: &Linux, new_time: bool) -> Result<Option<String>> {
    let mut lines = String::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if !new_time {
            return Err(Fault::new("timeOffsets are specified, but no new time namespace is"));
        }
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Fault::new(format!("timeOffsets: clock {clock:?} is none of monotonic, boottime")));
        }
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        let _ = writeln!(lines, "{clock} {seconds} {nanoseconds}");
    }
    Ok(new_time.then_some(lines))
}

/// What has to be done for an init in a new or joined user namespace by us, who are still the host's root.
pub(super) fn prepare_user(plan: &Plan, launch: &crate::launch::Launch, pid: i32) -> Result<()> {
    if plan.user == User::Own {
        return Ok(());
    }
    if let Some(process) = launch.spec.process() {
        crate::init::process::set_privileged(pid, process)?;
    }
    match (plan.user, launch.spec.linux()) {
        (User::New, Some(linux)) => user_namespace::Maps::of_container(linux).write(pid),
        _ => Ok(()),
    }
}
