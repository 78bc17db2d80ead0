//! From a launch request to an init that waits for the word to go: streams, clone, and beside init's own work control groups
//! (version 1) and network, each of which it is told of when it is there.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::process::{self, Cloned};
use hoist_sys::{signal, socket};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::control::Links;
use super::exec::Execs;
use super::external::External;
use super::io::{Streams, Wanted};
use super::log::Logger;
use super::{Init, Supervisor, intake, namespaces, network, overlay, own_session, sources};
use crate::cgroup::{self, Cgroup};
use crate::failure::{OrFail, Result};
use crate::init::channel::{self, ParentChannel};
use crate::init::{self, Context, Filter, Membership, RootSource};
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
    intake::check(&launch)?;
    let run_dir = open_directory(&launch.run_dir)?;
    let state_dir = open_directory(&launch.state_dir)?;
    // The previous run of this container may still be cleaning up what we are about to make.
    rustix::fs::flock(&run_dir, FlockOperation::LockExclusive).or_fail(|| "lock run directory")?;
    let lock = run_dir.try_clone().or_fail(|| "lock run directory")?;
    let filter = intake::filter(&mut launch)?;
    let (own_pipes, pipes) = pipes(launch.stdio)?;
    let streams = Streams::new(launch.stdio, Logger::open(&launch.log)?, own_pipes);
    let pid_namespace = File::open("/proc/self/ns/pid").or_fail(|| "open /proc/self/ns/pid")?.into();
    let undo = Undo { cgroup: None, run_dir: lock, child: None, external: None, armed: true };
    clock.phase("streams");
    let mut making = Making { launch, root: None, filter, streams, pid_namespace, kit, undo, clock };
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
    /// If it is not for init to make.
    root: Option<RootSource>,
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
        self.undo.cgroup = group_of(&self.launch.spec);
        // On version 2 a process is best born in its group; on version 1 it enters, and the group is made beside it.
        let membership = match (&self.undo.cgroup, cgroup::version()) {
            (Some(_), cgroup::Version::V1) => Membership::Awaited,
            (Some(_), cgroup::Version::V2) | (None, _) => Membership::Member,
        };
        if membership == Membership::Member {
            self.make_cgroup()?;
        }
        let go_given = early_messages(links, &mut self.streams)?;
        let mut init = self.clone_init(pipes, go_given, membership)?;
        self.clock.phase("clone");
        self.prepare_beside(&init, membership).map_err(|failure| cause(&init, failure))?;
        if !init.go_given && early_messages(links, &mut self.streams)? {
            init.go_given = true;
            let _ = init.channel.as_ref().map(ParentChannel::go);
        }
        Ok(init)
    }

    fn make_cgroup(&mut self) -> Result<()> {
        if let Some(cgroup) = &self.undo.cgroup {
            apply(cgroup.as_ref(), &self.launch.spec)?;
            self.clock.phase("cgroup");
        }
        Ok(())
    }

    /// What init waits for while it does what needs none of it. An init that is gone by now tells why itself.
    fn prepare_beside(&mut self, init: &Init, membership: Membership) -> Result<()> {
        if membership == Membership::Awaited {
            self.make_cgroup()?;
            let _ = init.channel.as_ref().map(ParentChannel::cgroup_is_ready);
        }
        self.set_up_network(init)
    }

    fn by_external_runtime(&mut self, links: &mut Links, pipes: Option<[OwnedFd; 3]>) -> Result<Init> {
        self.undo.cgroup = group_of(&self.launch.spec);
        let external = self.undo.external.insert(External::new(&self.launch)?);
        let root = self.root.insert(overlay::open(&self.launch.rootfs)?);
        let created = external.create(&self.launch, root, pipes)?;
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
            held: self.root.and_then(RootSource::into_detached).into_iter().collect(),
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

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).or_fail(|| format!("open {}", path.display()))
}

pub(crate) fn create_cgroup(spec: &Spec) -> Result<Option<Box<dyn Cgroup>>> {
    let Some(cgroup) = group_of(spec) else { return Ok(None) };
    if let Err(failure) = apply(cgroup.as_ref(), spec) {
        let _ = cgroup.remove();
        return Err(failure);
    }
    Ok(Some(cgroup))
}

/// The control group that the spec names, which need not be there yet.
fn group_of(spec: &Spec) -> Option<Box<dyn Cgroup>> {
    spec.linux().as_ref()?.cgroups_path().as_ref().map(|path| cgroup::at(path))
}

/// Makes the group with the spec's limits.
fn apply(cgroup: &dyn Cgroup, spec: &Spec) -> Result<()> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    cgroup.create(&resources).map_err(|error| {
        Failure::other(format!("unable to apply cgroup configuration: {}", hoist_sys::errno_text(&error)))
    })
}

/// If init has failed too, that is the cause of a failure of ours: its namespaces went away under us.
fn cause(init: &Init, failure: Failure) -> Failure {
    while let Some(Ok(Some(report))) = init.channel.as_ref().map(ParentChannel::receive) {
        if let channel::Report::Failed(cause) = report {
            return cause;
        }
    }
    failure
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
    fn clone_init(&mut self, streams: Option<[OwnedFd; 3]>, go: bool, membership: Membership) -> Result<Init> {
        let mut plan = namespaces::plan(&self.launch.spec)?;
        plan.check_plain()?;
        plan.join_ready(&mut self.kit)?;
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
                root: None,
                proc,
                join: plan.join,
                own_network: plan.created.contains(Namespaces::NETWORK) || self.kit.network().is_some(),
                new_cgroup_namespace: plan.new_cgroup,
                user: plan.user,
                cgroup,
                membership,
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
        let network = ready.map_or_else(|| Network::of_process(init.pid, init.pidfd.as_fd()), Ok)?;
        network::set_up(setup, &network)?;
        let Some(channel) = &init.channel else { return Ok(()) };
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
