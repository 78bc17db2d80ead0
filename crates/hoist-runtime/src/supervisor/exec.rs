//! More processes in a running container.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hoist_sys::capability;
use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::{signal, socket};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilitiesBuilder};
use rustix::net::SendFlags;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::Supervisor;
use super::namespaces::OF_EXEC;
use crate::cgroup::Cgroup;
use crate::failure::{OrFail, Result};
use crate::init::channel::{self, ChildChannel, ParentChannel, Report};
use crate::init::{self, Filter};
use crate::protocol::{ExecProcess, Failure, FromSupervisor, RunningExec, State};

/// Exec'd processes at once in one container.
const MAX_EXECS: usize = 1024;

/// Processes that were exec'd, until they end.
#[derive(Default)]
pub(super) struct Execs {
    list: Vec<Exec>,
}

struct Exec {
    id: String,
    pid: i32,
    pidfd: OwnedFd,
    /// Until its program runs.
    channel: Option<ParentChannel>,
    failed: bool,
    polled: Option<usize>,
}

impl Execs {
    pub(super) fn register(&mut self, set: &mut Set) {
        for exec in &mut self.list {
            exec.polled = exec.channel.as_ref().map(|channel| set.add(channel.as_fd(), Interest::Read));
        }
    }

    pub(super) fn running(&self) -> Vec<RunningExec> {
        let running = self.list.iter().filter(|exec| exec.channel.is_none() && !exec.failed);
        running.map(|exec| RunningExec { exec_id: exec.id.clone(), pid: exec.pid }).collect()
    }

    /// Reads reports: messages for the engines.
    pub(super) fn handle(&mut self, set: &Set) -> Vec<FromSupervisor> {
        let ready = |exec: &Exec| exec.polled.is_some_and(|index| set.ready(index).any());
        self.list.iter_mut().filter(|exec| ready(exec)).filter_map(Exec::read_report).collect()
    }

    /// The process `pid` has ended: messages for the engines, if it was one of these.
    pub(super) fn ended(&mut self, pid: i32, exit_code: i32) -> Vec<FromSupervisor> {
        let Some(index) = self.list.iter().position(|exec| exec.pid == pid) else { return Vec::new() };
        let mut exec = self.list.swap_remove(index);
        // The end may be seen before the report that led to it.
        let mut messages: Vec<FromSupervisor> = exec.read_report().into_iter().collect();
        if !exec.failed {
            messages.push(FromSupervisor::ExecExited { exec_id: exec.id, exit_code });
        }
        messages
    }

    pub(super) fn signal(&self, id: &str, number: i32) {
        if let Some(exec) = self.list.iter().find(|exec| exec.id == id) {
            let _ = signal::send_by_pidfd(exec.pidfd.as_fd(), number);
        }
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = i32> {
        self.list.iter().map(|exec| exec.pid)
    }
}

impl Exec {
    fn read_report(&mut self) -> Option<FromSupervisor> {
        let channel = self.channel.as_ref()?;
        loop {
            match channel.receive() {
                Ok(Some(Report::Failed(failure))) => {
                    self.channel = None;
                    self.failed = true;
                    return Some(FromSupervisor::ExecFailed { exec_id: self.id.clone(), failure });
                }
                Ok(Some(_)) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                Ok(None) | Err(_) => {
                    self.channel = None;
                    return Some(FromSupervisor::ExecStarted { exec_id: self.id.clone(), pid: self.pid });
                }
            }
        }
    }
}

/// What the new process needs of the supervisor.
struct Context<'a> {
    request: ExecProcess,
    fds: Vec<OwnedFd>,
    container: BorrowedFd<'a>,
    cgroup: Option<&'a dyn Cgroup>,
    filter: Option<Filter>,
    channel: ChildChannel,
}

impl Supervisor {
    pub(super) fn exec(&mut self, id: String, request: ExecProcess, fds: Vec<OwnedFd>) -> Option<FromSupervisor> {
        match self.try_exec(&id, request, fds) {
            Ok(exec) => {
                self.execs.list.push(exec);
                None
            }
            Err(failure) => Some(FromSupervisor::ExecFailed { exec_id: id, failure }),
        }
    }

    fn try_exec(&self, id: &str, mut request: ExecProcess, fds: Vec<OwnedFd>) -> Result<Exec> {
        if !matches!(self.init.state, State::Running { .. }) {
            return Err(Failure::other("container is not running"));
        }
        if self.execs.list.len() >= MAX_EXECS || self.execs.list.iter().any(|exec| exec.id == id) {
            return Err(Failure::other(format!("exec {id} is running already, or there are too many")));
        }
        let terminal = request.process.terminal().unwrap_or(false);
        if fds.len() != if terminal { 1 } else { 3 } {
            return Err(Failure::other("exec request came without its streams"));
        }
        init::check_labels(&request.process)?;
        let filter = self.filter.clone();
        if request.privileged {
            grant_everything(&mut request)?;
        }
        let (parent, channel) = channel::pair().or_fail(|| "make channel to process")?;
        let into = self.cgroup.as_ref().map(|cgroup| cgroup.clone_into_fd()).transpose();
        let into = into.or_fail(|| "open cgroup")?.flatten();
        if let Some(cgroup) = &self.cgroup {
            // Without it each process opens them itself.
            let _ = cgroup.expect_entries();
        }
        let container = self.init.pidfd.as_fd();
        let pinned = Pinned::to_this_cpu();
        // Only children are affected; the way back is always open, because it is our own namespace.
        namespace::join(container, Namespaces::PID).or_fail(|| "join pid namespace of the container")?;
        let cloned = process::clone(Namespaces::default(), into.as_ref().map(AsFd::as_fd));
        drop(pinned);
        if matches!(cloned, Ok(Cloned::Child)) {
            let cgroup = self.cgroup.as_deref().filter(|_| into.is_none());
            run(Context { request, fds, container, cgroup, filter, channel })
        }
        namespace::join(self.pid_namespace.as_fd(), Namespaces::PID).or_fail(|| "return to own pid namespace")?;
        match cloned.or_fail(|| "clone process")? {
            Cloned::Parent { pid, pidfd } => {
                Ok(Exec { id: id.to_owned(), pid, pidfd, channel: Some(parent), failed: false, polled: None })
            }
            Cloned::Child => process::exit_now(1),
        }
    }
}

/// Keeps the calling process, and what it clones, on the processor it runs on, until dropped (in both). A child that is to
/// run while its parent waits starts sooner here than on a processor that has to be woken, and finds the caches warm.
struct Pinned {
    usual: CpuSet,
}

impl Pinned {
    /// `None` where it cannot be had: then the kernel chooses, as always.
    fn to_this_cpu() -> Option<Pinned> {
        let usual = sched_getaffinity(None).ok()?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).ok().map(|()| Pinned { usual })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed a moment ago; processors that went away since are left out by the kernel.
        let _ = sched_setaffinity(None, &self.usual);
    }
}

/// `docker exec --privileged`: all capabilities that there are.
fn grant_everything(request: &mut ExecProcess) -> Result<()> {
    let all: Capabilities = capability::permitted()
        .or_fail(|| "read capabilities")?
        .names()
        .filter_map(|name| name.strip_prefix("CAP_")?.parse::<Capability>().ok())
        .collect();
    let sets = LinuxCapabilitiesBuilder::default()
        .bounding(all.clone())
        .effective(all.clone())
        .permitted(all)
        .inheritable(Capabilities::default())
        .ambient(Capabilities::default())
        .build()
        .map_err(|error| Failure::other(error.to_string()))?;
    request.process.set_capabilities(Some(sets));
    Ok(())
}

/// In the new process, which is undumpable as the supervisor is: nothing in the container can trace it or look into it
/// before its program runs (CVE-2016-9962).
fn run(context: Context<'_>) -> ! {
    let Err(failure) = enter_and_exec(&context);
    context.channel.failed(&failure);
    process::exit_now(1)
}

fn enter_and_exec(context: &Context<'_>) -> Result<std::convert::Infallible> {
    let spec = &context.request.process;
    signal::unblock_all().or_fail(|| "unblock signals")?;
    rustix::process::setsid().or_fail(|| "setsid")?;
    let _ = process::new_session_keyring();
    if let Some(cgroup) = context.cgroup {
        cgroup.enter().or_fail(|| "unable to apply cgroup configuration")?;
    }
    let proc = init::HostProc::open()?;
    init::process::set_oom_score(spec, &proc)?;
    init::ExecLabels::open(spec, &proc)?.set()?;
    drop(proc);
    // The connections of engines, the log and the like go before the container's files come into sight.
    let own = [context.container, context.channel.as_fd()];
    let keep = context.fds.iter().map(AsFd::as_fd).chain(own);
    let mut keep: Vec<u32> = keep.map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    hoist_sys::fd::close_all_except(3, &mut keep).or_fail(|| "close_range")?;
    namespace::join(context.container, OF_EXEC).or_fail(|| "join namespaces of the container")?;
    if spec.terminal().unwrap_or(false) {
        attach_terminal(context)?;
    } else {
        init::process::set_streams([context.fds[0].as_fd(), context.fds[1].as_fd(), context.fds[2].as_fd()])?;
    }
    let prepared = init::process::prepare(spec, context.filter.clone())?.confine()?;
    // As with init: nothing of a container outlives its supervisor unseen.
    process::set_parent_death_signal(signal::KILL).or_fail(|| "prctl PR_SET_PDEATHSIG")?;
    prepared.exec()
}

fn attach_terminal(context: &Context<'_>) -> Result<()> {
    let root = init::process::own_root()?;
    let size = init::console_size(&context.request.process);
    let (master, slave) = init::open_terminal(root.as_fd(), size)?;
    socket::send(context.fds[0].as_fd(), b"m", &[master.as_fd()], SendFlags::empty()).or_fail(|| "send terminal")?;
    init::make_controlling(slave.as_fd())
}
