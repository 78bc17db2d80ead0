//! From a launch request to an init that waits for the word to go: root, control groups, streams, clone, network.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::process::{self, Cloned};
use hoist_sys::seccomp::Program;
use hoist_sys::{signal, socket};
use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccompFilterFlag, Spec};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::control::Links;
use super::exec::Execs;
use super::external::External;
use super::io::{Streams, Wanted};
use super::log::Logger;
use super::{Init, Supervisor, namespaces, network, overlay, own_session, sources};
use crate::cgroup::{self, Cgroup};
use crate::failure::{OrFail, Result};
use crate::init::channel;
use crate::init::{self, Context, Filter, RootSource};
use crate::kit::{Kit, Network};
use crate::launch::{Launch, Stdio};
use crate::protocol::{Failure, PID_FILE_NAME, SOCKET_NAME, State, ToSupervisor};

/// Undoes what was made, unless it is disarmed.
struct Undo {
    cgroup: Option<Box<dyn Cgroup>>,
    run_dir: OwnedFd,
    child: Option<(i32, OwnedFd)>,
    external: Option<External>,
    armed: bool,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some((pid, pidfd)) = &self.child {
            let _ = signal::send_by_pidfd(pidfd.as_fd(), signal::KILL);
            let _ = process::wait(*pid);
        }
        if let Some(external) = &self.external {
            external.delete();
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.remove();
        }
        unlink_files(&self.run_dir);
    }
}

pub(super) fn unlink_files(run_dir: &OwnedFd) {
    for name in [SOCKET_NAME, PID_FILE_NAME] {
        let _ = rustix::fs::unlinkat(run_dir, name, rustix::fs::AtFlags::empty());
    }
}

/// How long each phase took.
struct Clock {
    start: Instant,
    last: Instant,
    phases: Vec<(String, u64)>,
}

impl Clock {
    fn phase(&mut self, name: &str) {
        let now = Instant::now();
        self.phases.push((name.to_owned(), u64::try_from((now - self.last).as_nanos()).unwrap_or(u64::MAX)));
        self.last = now;
    }
}

/// Makes the container, up to where it waits for the word to go. The connections move into the supervisor.
pub(super) fn prepare(links: &mut Links, mut launch: Launch, kit: Kit) -> Result<Supervisor> {
    let start = Instant::now();
    let mut clock = Clock { start, last: start, phases: Vec::new() };
    check(&launch)?;
    let run_dir = open_directory(&launch.run_dir)?;
    let state_dir = open_directory(&launch.state_dir)?;
    // The previous run of this container may still be cleaning up what we are about to make.
    rustix::fs::flock(&run_dir, FlockOperation::LockExclusive).or_fail(|| "lock run directory")?;
    let lock = run_dir.try_clone().or_fail(|| "lock run directory")?;
    let filter = filter(&mut launch)?;
    let root = overlay::open(&launch.rootfs)?;
    clock.phase("rootfs");
    let (own_pipes, pipes) = pipes(launch.stdio)?;
    let streams = Streams::new(launch.stdio, Logger::open(&launch.log)?, own_pipes);
    let pid_namespace = File::open("/proc/self/ns/pid").or_fail(|| "open /proc/self/ns/pid")?.into();
    let undo = Undo { cgroup: None, run_dir: lock, child: None, external: None, armed: true };
    let mut making = Making { launch, root, filter, streams, pid_namespace, kit, undo, clock };
    let init = if making.launch.external_runtime.is_some() {
        making.by_external_runtime(links, pipes)?
    } else {
        making.by_clone(links, pipes)?
    };
    own_session()?;
    links.listen(socket::listen(run_dir.as_fd(), SOCKET_NAME).or_fail(|| format!("listen on {SOCKET_NAME}"))?);
    write_pid(&run_dir)?;
    let signals = signal::descriptor(Some(&[signal::CHILD])).or_fail(|| "signalfd")?;
    making.clock.phase("sockets");
    Ok(making.into_supervisor(std::mem::take(links), init, [run_dir, state_dir, signals]))
}

/// A container that is being made.
struct Making {
    launch: Launch,
    root: RootSource,
    filter: Option<Filter>,
    streams: Streams,
    pid_namespace: OwnedFd,
    kit: Kit,
    undo: Undo,
    clock: Clock,
}

impl Making {
    fn by_clone(&mut self, links: &mut Links, pipes: Option<[OwnedFd; 3]>) -> Result<Init> {
        if self.launch.spec.hooks().is_some() {
            return Err(Failure::other("hooks are not supported for containers of the engine"));
        }
        self.undo.cgroup = create_cgroup(&self.launch.spec)?;
        self.clock.phase("cgroup");
        let go_given = early_messages(links, &mut self.streams)?;
        let init = self.clone_init(pipes, go_given)?;
        self.clock.phase("clone");
        self.set_up_network(&init)?;
        Ok(init)
    }

    fn by_external_runtime(&mut self, links: &mut Links, pipes: Option<[OwnedFd; 3]>) -> Result<Init> {
        let path = self.launch.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
        self.undo.cgroup = path.map(|path| cgroup::at(&path));
        let external = self.undo.external.insert(External::new(&self.launch)?);
        let created = external.create(&self.launch, &self.root, pipes)?;
        self.clock.phase("runtime create");
        if let Some(terminal) = created.terminal {
            self.streams.set_terminal(terminal);
        }
        let listed = self.launch.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let owns_pid_namespace = listed.into_iter().flatten().any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Pid && namespaces::joined_path(namespace).is_none()
        });
        let go_given = early_messages(links, &mut self.streams)?;
        let init = Init {
            pid: created.pid,
            pidfd: created.pidfd,
            channel: None,
            state: State::Prepared,
            go_given,
            owns_pid_namespace,
        };
        self.set_up_network(&init)?;
        Ok(init)
    }

    fn into_supervisor(mut self, links: Links, init: Init, [run_dir, state_dir, signals]: [OwnedFd; 3]) -> Supervisor {
        self.undo.armed = false;
        let cgroup = self.undo.cgroup.take();
        Supervisor {
            id: self.launch.id,
            links,
            streams: self.streams,
            execs: Execs::default(),
            init,
            external: self.undo.external.take(),
            run_dir,
            state_dir,
            oom_kills: cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or(0),
            oom_seen: false,
            oom_rechecks: 0,
            oom_watch: None,
            cgroup,
            cgroup_path: self.launch.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()),
            root: match self.root {
                RootSource::Detached(root) => Some(root),
                RootSource::Legacy { .. } => None,
            },
            filter: self.filter,
            kit: Some(self.kit),
            signals,
            pid_namespace: self.pid_namespace,
            phases: self.clock.phases,
            settles_at: None,
            since: self.clock.start,
        }
    }
}

/// What can be refused before anything is made.
pub(crate) fn check(launch: &Launch) -> Result<()> {
    let refuse = |what: &str| Err(Failure::other(format!("{what} is not supported")));
    let spec = &launch.spec;
    let process = spec.process().as_ref().ok_or_else(|| Failure::other("process is not set"))?;
    init::check_labels(process)?;
    init::check_sysctls(spec)?;
    let Some(linux) = spec.linux() else { return Ok(()) };
    if linux.intel_rdt().is_some() {
        return refuse("linux.intelRdt");
    }
    if linux.memory_policy().is_some() {
        return refuse("linux.memoryPolicy");
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return refuse("linux.netDevices");
    }
    if linux.seccomp().as_ref().is_some_and(|seccomp| seccomp.listener_path().is_some()) {
        return refuse("linux.seccomp.listenerPath");
    }
    Ok(())
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).or_fail(|| format!("open {}", path.display()))
}

pub(crate) fn filter(launch: &mut Launch) -> Result<Option<Filter>> {
    let seccomp = launch.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let program = match (launch.seccomp_program.take(), seccomp) {
        (Some(program), _) => program,
        (None, Some(seccomp)) => {
            crate::seccomp::compile(seccomp).map_err(|error| Failure::other(format!("seccomp profile: {error}")))?
        }
        (None, None) => return Ok(None),
    };
    let flags = seccomp.and_then(|seccomp| seccomp.flags().as_ref()).into_iter().flatten().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => hoist_sys::seccomp::flag::LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => hoist_sys::seccomp::flag::TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => hoist_sys::seccomp::flag::SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => hoist_sys::seccomp::flag::WAIT_KILLABLE_RECV,
    });
    let flags = flags.fold(0, |all, flag| all | flag);
    let program = Program::from_bytes(&program).or_fail(|| "seccomp program")?;
    Ok(Some(Filter { program, flags }))
}

pub(crate) fn create_cgroup(spec: &Spec) -> Result<Option<Box<dyn Cgroup>>> {
    let Some(linux) = spec.linux() else { return Ok(None) };
    let Some(path) = linux.cgroups_path() else { return Ok(None) };
    let cgroup = cgroup::at(path);
    let resources = linux.resources().clone().unwrap_or_default();
    if let Err(error) = cgroup.create(&resources) {
        let _ = cgroup.remove();
        return Err(Failure::other(format!("unable to apply cgroup configuration: {}", hoist_sys::errno_text(&error))));
    }
    Ok(Some(cgroup))
}

type Pipes = ([Option<OwnedFd>; 3], Option<[OwnedFd; 3]>);

/// Our ends (non-blocking) and the container's.
fn pipes(stdio: Stdio) -> Result<Pipes> {
    if stdio.tty {
        return Ok(([None, None, None], None));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).or_fail(|| "make pipe");
    let nonblocking = |fd: OwnedFd| rustix::io::ioctl_fionbio(&fd, true).map(|()| fd).or_fail(|| "make pipe");
    let (stdin, own_stdin) = if stdio.open_stdin {
        let (read, write) = pipe()?;
        (read, Some(nonblocking(write)?))
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        (null.or_fail(|| "open /dev/null")?, None)
    };
    let (own_stdout, stdout) = pipe()?;
    let (own_stderr, stderr) = pipe()?;
    let own = [own_stdin, Some(nonblocking(own_stdout)?), Some(nonblocking(own_stderr)?)];
    Ok((own, Some([stdin, stdout, stderr])))
}

/// Usually the engine has sent its attachments and the word to go by now; then init need not wait for it.
fn early_messages(links: &mut Links, streams: &mut Streams) -> Result<bool> {
    let mut go = false;
    while let Some(received) = links.receive() {
        match received.message {
            ToSupervisor::Attach { stdin, stdout, stderr } => {
                if let Some(socket) = received.fds.into_iter().next() {
                    streams.attach(socket, Wanted { stdin, stdout, stderr });
                }
            }
            ToSupervisor::Start => {
                go = true;
                break;
            }
            ToSupervisor::Abort => return Err(Failure::other("start was given up")),
            // Nothing else makes sense before there is a container.
            _ => {}
        }
    }
    Ok(go)
}

impl Making {
    fn clone_init(&mut self, streams: Option<[OwnedFd; 3]>, go: bool) -> Result<Init> {
        let mut plan = namespaces::plan(&self.launch.spec)?;
        plan.check_plain()?;
        plan.join_ready_network(&mut self.kit)?;
        self.kit.take_sysctls_from(&mut self.launch.spec);
        let proc = init::HostProc::open()?;
        let shared_sources = sources::open(&self.launch)?;
        let (parent, child) = channel::pair().or_fail(|| "make channel to init")?;
        let cgroup = self.undo.cgroup.as_deref();
        let into = cgroup.map(Cgroup::clone_into_fd).transpose().or_fail(|| "open cgroup")?.flatten();
        if let Some(target) = &plan.join_pid {
            namespace::join(target.as_fd(), Namespaces::PID).or_fail(|| "join pid namespace")?;
        }
        let cloned = process::clone(plan.created, into.as_ref().map(AsFd::as_fd)).or_fail(|| "clone init");
        if matches!(cloned, Ok(Cloned::Child)) {
            drop(parent);
            init::run(Context {
                launch: &self.launch,
                root: &self.root,
                proc,
                join: plan.join,
                own_network: plan.created.contains(Namespaces::NETWORK) || self.kit.network().is_some(),
                new_cgroup_namespace: plan.new_cgroup,
                user: plan.user,
                cgroup: cgroup.filter(|_| into.is_none()),
                kit: Some(&self.kit),
                shared_sources,
                streams,
                filter: self.filter.clone(),
                network_pending: self.launch.network.is_some(),
                go,
                channel: child,
                oci: None,
            })
        }
        if plan.join_pid.is_some() {
            let own = self.pid_namespace.as_fd();
            namespace::join(own, Namespaces::PID).or_fail(|| "return to own pid namespace")?;
        }
        let Cloned::Parent { pid, pidfd } = cloned? else { process::exit_now(1) };
        self.undo.child = Some((pid, pidfd.try_clone().or_fail(|| "duplicate pidfd")?));
        Ok(Init {
            pid,
            pidfd,
            channel: Some(parent),
            state: State::Preparing,
            go_given: go,
            owns_pid_namespace: plan.created.contains(Namespaces::PID),
        })
    }

    fn set_up_network(&mut self, init: &Init) -> Result<()> {
        let ready = self.kit.take_network();
        let Some(setup) = self.launch.network.clone() else { return Ok(()) };
        let network = ready.map_or_else(|| Network::of_process(init.pid, init.pidfd.as_fd()), Ok);
        let done = network.and_then(|network| network::set_up(setup, &network));
        let Some(channel) = &init.channel else { return done };
        if let Err(failure) = done {
            // If init has failed too, that is the cause: its network namespace went away under us.
            while let Ok(Some(report)) = channel.receive() {
                if let channel::Report::Failed(cause) = report {
                    return Err(cause);
                }
            }
            return Err(failure);
        }
        // An init that is gone by now tells why itself.
        let _ = channel.network_is_ready();
        self.clock.phase("network");
        Ok(())
    }
}

fn write_pid(run_dir: &OwnedFd) -> Result<()> {
    let pid = std::process::id().to_string();
    hoist_sys::file::write_atomic(run_dir.as_fd(), PID_FILE_NAME.as_ref(), pid.as_bytes(), 0o600)
        .or_fail(|| format!("write {PID_FILE_NAME}"))
}
