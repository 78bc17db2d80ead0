//! The supervisor: one process per container, single-threaded, parent of the container's init and of exec'd processes.
//!
//! ```text
//! run ── prepare: root, groups, streams, clone init, network ──> main_loop ── init ends ──> finish ──> linger ──> exit
//!            │ failure                                             │ init reports failure
//!            └───────────────────> StartFailed, everything undone <┘
//! ```
//!
//! It survives the engine: later ones connect to `supervisor.sock` in the run directory. After preparation the path
//! of output needs no more memory, but for a log that does not block, whose buffer grows to the size that was given; and
//! it does not look at what users send.

mod control;
mod exec;
mod external;
mod finish;
pub(crate) mod intake;
mod io;
mod log;
mod main_loop;
pub(crate) mod namespaces;
mod network;
mod oom;
pub(crate) mod overlay;
pub(crate) mod prepare;
mod sources;
pub(crate) mod time;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use hoist_sys::process;
use hoist_sys::signal;
use rustix::fs::{Mode, OFlags};

use crate::cgroup::Cgroup;
use crate::failure::{OrFail, Result};
use crate::init::Filter;
use crate::init::channel::ParentChannel;
use crate::kit::Kit;
use crate::protocol::{FromSupervisor, State};
use control::Links;
use exec::Execs;
use external::External;
use io::Streams;

/// A running supervisor.
struct Supervisor {
    id: String,
    links: Links,
    streams: Streams,
    execs: Execs,
    init: Init,
    /// The other runtime that made the container, if it was not us.
    external: Option<External>,
    /// Where `supervisor.sock` is; its lock is held until everything is cleaned up, so that the next run of the same
    /// container waits for that.
    run_dir: OwnedFd,
    state_dir: OwnedFd,
    cgroup: Option<Box<dyn Cgroup>>,
    /// What would go with init if nobody else had it, and keep init from having ended until it is gone: its mounts (which
    /// may have to be written to disk) and its IPC namespace.
    held: Vec<OwnedFd>,
    filter: Option<Filter>,
    /// What of the kit may not be closed before init has left us: the end of a mount that nobody took is waited for.
    kit: Option<Kit>,
    signals: OwnedFd,
    /// The own pid namespace, to come back to after forking into the container's.
    pid_namespace: OwnedFd,
    /// Kills by the OOM killer that are known, at first those of an earlier run.
    oom_kills: u64,
    oom_seen: bool,
    oom_rechecks: u8,
    oom_watch: Option<oom::Watch>,
    cgroup_path: Option<PathBuf>,
    phases: Vec<(String, u64)>,
    /// When to become small.
    settles_at: Option<Instant>,
    /// When the launch request was taken up.
    since: Instant,
}

/// The container's first process.
struct Init {
    pid: i32,
    pidfd: OwnedFd,
    /// Until exec.
    channel: Option<ParentChannel>,
    state: State,
    go_given: bool,
    /// Its pid namespace is new: when it ends everything in it does.
    owns_pid_namespace: bool,
}

/// What a freshly forked process has done to be a supervisor, before it looks at a launch.
pub(crate) struct Readiness {
    isolated: Result<()>,
    kit: Kit,
}

impl Readiness {
    /// As little as can be: the launch is there.
    pub(crate) fn at_once() -> Readiness {
        Readiness { isolated: isolate(), kit: Kit::default() }
    }

    /// All that can be, while nobody waits.
    pub(crate) fn early() -> Readiness {
        let isolated = isolate().and_then(|()| own_session());
        let kit = Kit::make();
        intake::rehearse();
        let _ = rustix::thread::set_name(c"hoist-parked");
        Readiness { isolated, kit }
    }
}

/// Runs a supervisor; does not return.
pub(crate) fn run(control: OwnedFd, payload: &[u8], readiness: Readiness) -> ! {
    let _ = rustix::thread::set_name(c"hoist-sup");
    let mut links = Links::new(control);
    let supervisor = readiness.isolated.and_then(|()| {
        let launch = intake::read(payload)?;
        prepare::prepare(&mut links, launch, readiness.kit)
    });
    match supervisor {
        Ok(supervisor) => supervisor.main_loop(),
        Err(failure) => {
            links.send_all(&FromSupervisor::StartFailed(failure));
            links.wait_until_closed();
        }
    }
    process::exit_now(0)
}

/// A session is also a scheduling group, so becoming the leader of one can cost a time slice: not before init runs, unless
/// there is time.
fn own_session() -> Result<()> {
    match rustix::process::getsid(None) {
        Ok(session) if session == rustix::process::getpid() => Ok(()),
        _ => rustix::process::setsid().map(drop).or_fail(|| "setsid"),
    }
}

/// No part in signals of others, nothing open that is not ours.
fn isolate() -> Result<()> {
    signal::block_all().or_fail(|| "block signals")?;
    // All others are as the container's processes shall have them, see the spawner.
    signal::set_default(signal::CHILD).or_fail(|| "set action of SIGCHLD")?;
    process::set_subreaper().or_fail(|| "prctl PR_SET_CHILD_SUBREAPER")?;
    process::set_undumpable().or_fail(|| "prctl PR_SET_DUMPABLE")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.or_fail(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).or_fail(|| "set stdin")?;
    rustix::stdio::dup2_stdout(&null).or_fail(|| "set stdout")?;
    rustix::stdio::dup2_stderr(&null).or_fail(|| "set stderr")
}
