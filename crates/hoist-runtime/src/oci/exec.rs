//! `exec`: one more process in a running container.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::signal;
use oci_spec::runtime::{Capabilities, LinuxNamespaceType, Process, Spec, User};
use rustix::fs::{Mode, OFlags};
use rustix::process::PidfdFlags;

use super::affinity::Affinity;
use super::arguments::Arguments;
use super::fault::{Fault, Result, Trying};
use super::record::{self, Record, Status};
use super::{bundle, create, shared_mounts};
use crate::cgroup::{self, Cgroup};
use crate::failure::{self, OrFail};
use crate::init::channel::{self, ChildChannel, Report};
use crate::init::{self, Filter};
use crate::launch::{Launch, Log, Rootfs, Stdio};
use crate::supervisor::intake;
use crate::supervisor::namespaces::OF_EXEC;

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) process: Process,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) pidfd_socket: Option<PathBuf>,
    pub(super) preserved_fds: u32,
    /// A group below the container's.
    pub(super) group: Option<String>,
    pub(super) ignore_paused: bool,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) terminal: Option<OwnedFd>,
}

/// The process to run: a file's, or the container's own with changes.
pub(super) fn process(record: &Record, arguments: &Arguments) -> Result<Process> {
    if let Some(path) = arguments.get("process") {
        let process: Process = bundle::read_json(path.as_ref(), "process file")?;
        bundle::check_process(&process)?;
        return Ok(process);
    }
    let mut process = record.config.process().clone().ok_or_else(|| Fault::new("the container has no process"))?;
    process.set_args(Some(arguments.rest.clone())).set_terminal(Some(arguments.has("tty"))).set_console_size(None);
    if let Some(cwd) = arguments.get("cwd") {
        process.set_cwd(PathBuf::from(cwd));
    }
    if let Some(label) = arguments.get("apparmor") {
        process.set_apparmor_profile(Some(label.to_owned()));
    }
    if let Some(label) = arguments.get("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if arguments.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(arguments.all("env").map(str::to_owned));
    process.set_env(Some(environment));
    add_capabilities(&mut process, arguments)?;
    let mut user = match arguments.get("user") {
        Some(text) => parse_user(text)?,
        None => process.user().clone(),
    };
    let additional: Vec<u32> = arguments
        .all("additional-gids")
        .map(|text| text.parse().map_err(|_| Fault::new(format!("invalid group id {text:?}"))))
        .collect::<Result<_>>()?;
    if !additional.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(additional);
        user.set_additional_gids(Some(gids));
    }
    process.set_user(user);
    bundle::check_process(&process)?;
    Ok(process)
}

/// `uid[:gid]`, as runc: the additional groups of the container's own user are kept away.
fn parse_user(text: &str) -> Result<User> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| Fault::new(format!("invalid user {text:?}")));
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (number(uid)?, number(gid)?),
        None => (number(text)?, 0),
    };
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid);
    Ok(user)
}

fn add_capabilities(process: &mut Process, arguments: &Arguments) -> Result<()> {
    let added: Capabilities = arguments
        .all("cap")
        .map(|name| {
            let plain = name.strip_prefix("CAP_").unwrap_or(name);
            plain.parse().map_err(|_| Fault::new(format!("unknown capability {name:?}")))
        })
        .collect::<Result<_>>()?;
    if added.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(|| crate::defaults::capability_sets([""; 0]));
    let with = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&added).copied().collect());
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}

pub(super) fn exec(record: &Record, request: Request) -> Result<Executed> {
    match record.status()? {
        Status::Stopped => return Err(Fault::new("cannot exec in a stopped container")),
        Status::Paused if !request.ignore_paused => return Err(Fault::new("cannot exec in a paused container")),
        _ => {}
    }
    init::check_labels(&request.process)?;
    let affinity = Affinity::of(&request.process)?;
    let filter = filter(record)?;
    let root = if shared_mounts::are_wanted(&record.config) { Some(open_root(record)?) } else { None };
    // After the root: if this is the container's init, that was its root.
    let container = open_pidfd(record)?;
    let group = group(record, request.group.as_deref())?;
    let (parent, channel) = channel::pair().trying(|| "make channel to process")?;
    let terminal = request.process.terminal().unwrap_or(false);
    let streams = if terminal { None } else { Some(create::own_streams()?) };
    let into = group.clone_into_fd().trying(|| "open cgroup")?;
    // Inherited by the clone, which may be born in the group.
    affinity.apply_initial()?;
    let (pid, pidfd) = match create::clone_in_pid_namespace(Some(&container), Namespaces::default(), into.as_ref())? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(parent);
            let cgroup = Some(group.as_ref()).filter(|_| into.is_none());
            let (config, namespaces) = (&record.config, namespaces(record));
            let context = Context { request: &request, config, namespaces, container, root, cgroup, streams, channel };
            run(&context, &affinity, filter)
        }
    };
    drop(channel);
    let terminal = match wait_until_running(&parent, &request) {
        Ok(terminal) => terminal,
        Err(fault) => {
            let _ = process::wait(pid);
            return Err(fault);
        }
    };
    if let Some(path) = &request.pid_file {
        record::write_atomically(path, pid.to_string().as_bytes())?;
    }
    if let Some(path) = &request.pidfd_socket {
        create::send_pidfd(path, &pidfd)?;
    }
    Ok(Executed { pid, pidfd, terminal })
}

/// The root of the container's init.
fn open_root(record: &Record) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", record.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).trying(|| "open the container's root")
}

/// The pidfd of the container's init, certainly of that one.
fn open_pidfd(record: &Record) -> Result<OwnedFd> {
    let gone = || Fault::new("cannot exec in a stopped container");
    let pid = rustix::process::Pid::from_raw(record.pid).ok_or_else(gone)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    if record::is_alive(record.pid, record.pid_started) { Ok(pidfd) } else { Err(gone()) }
}

fn filter(record: &Record) -> Result<Option<Filter>> {
    let mut launch = Launch {
        id: String::new(),
        spec: record.config.clone(),
        subpaths: Vec::new(),
        rootfs: Rootfs::Directory(PathBuf::new()),
        seccomp_program: None,
        stdio: Stdio::default(),
        log: Log::None,
        network: None,
        state_dir: PathBuf::new(),
        run_dir: PathBuf::new(),
        init: false,
        external_runtime: None,
    };
    Ok(intake::filter(&mut launch)?)
}

fn group(record: &Record, below: Option<&str>) -> Result<Box<dyn Cgroup>> {
    let Some(below) = below.map(|below| below.trim_matches('/')).filter(|below| !below.is_empty()) else {
        return Ok(record.cgroup());
    };
    if below.contains(':') {
        return Err(Fault::new("--cgroup takes a path for all controllers, not CONTROLLER:PATH"));
    }
    let group = cgroup::at(&record.cgroups_path.join(below));
    match group.paths().iter().find(|(_, path)| !path.is_dir()) {
        Some((_, missing)) => Err(Fault::new(format!("cgroup {} does not exist", missing.display()))),
        None => Ok(group),
    }
}

fn wait_until_running(channel: &channel::ParentChannel, request: &Request) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    let mut set = Set::default();
    loop {
        match channel.receive() {
            Ok(None) => return Ok(terminal),
            Ok(Some(Report::Failed(failure))) => {
                return Err(Fault::from(failure).within("unable to start container process"));
            }
            Ok(Some(Report::Prepared(_))) => {}
            Ok(Some(Report::Terminal(master))) => match &request.console_socket {
                Some(path) => create::send_terminal(path, master)?,
                None => terminal = Some(master),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                set.clear();
                set.add(channel.as_fd(), Interest::Read);
                set.wait(None).trying(|| "wait for process")?;
            }
            Err(error) => return Err(error).trying(|| "hear of process"),
        }
    }
}

struct Context<'a> {
    request: &'a Request,
    /// The container's.
    config: &'a Spec,
    namespaces: Namespaces,
    container: OwnedFd,
    /// If no mount namespace leads to it.
    root: Option<OwnedFd>,
    cgroup: Option<&'a dyn Cgroup>,
    streams: Option<[OwnedFd; 3]>,
    channel: ChildChannel,
}

/// In the new process.
fn run(context: &Context<'_>, affinity: &Affinity, filter: Option<Filter>) -> ! {
    let Err(failure) = enter_and_exec(context, affinity, filter);
    context.channel.failed(&failure);
    process::exit_now(1)
}

fn enter_and_exec(
    context: &Context<'_>,
    affinity: &Affinity,
    filter: Option<Filter>,
) -> failure::Result<std::convert::Infallible> {
    let process = &context.request.process;
    // Nothing in the container can look into us before the program runs (CVE-2016-9962).
    process::set_undumpable().or_fail(|| "prctl PR_SET_DUMPABLE")?;
    signal::reset_dispositions();
    signal::unblock_all().or_fail(|| "unblock signals")?;
    rustix::process::setsid().or_fail(|| "setsid")?;
    let _ = process::new_session_keyring();
    if let Some(cgroup) = context.cgroup {
        cgroup.enter().or_fail(|| "unable to apply cgroup configuration")?;
    }
    affinity.apply_last()?;
    let proc = init::HostProc::open()?;
    init::process::set_oom_score(process, &proc)?;
    init::process::set_own_limits(process)?;
    init::ExecLabels::open(process, &proc)?.set()?;
    drop(proc);
    let preserved = 3 + context.request.preserved_fds;
    let own = context.streams.iter().flatten().map(AsRawFd::as_raw_fd);
    let own = own.chain([context.container.as_raw_fd(), context.channel.as_fd().as_raw_fd()]);
    let own = own.chain(context.root.iter().map(AsRawFd::as_raw_fd));
    let mut keep: Vec<u32> = own.map(i32::unsigned_abs).chain(3..preserved).collect();
    keep.dedup();
    hoist_sys::fd::close_all_except(3, &mut keep).or_fail(|| "close_range")?;
    enter_namespaces(context)?;
    init::scheduling::set_personality(context.config)?;
    match &context.streams {
        Some([stdin, stdout, stderr]) => {
            init::process::set_streams([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
        }
        None => attach_terminal(context)?,
    }
    let prepared = init::process::prepare(process, filter)?;
    for number in 3..preserved {
        hoist_sys::fd::clear_cloexec(number).or_fail(|| format!("preserved fd {number}"))?;
    }
    prepared.confine()?.exec()
}

/// The container's namespaces but that of its processes, which the clone is born in. The kernel refuses to join the user
/// namespace that one is in.
fn namespaces(record: &Record) -> Namespaces {
    let mut all = OF_EXEC;
    let listed = record.config.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let has = |kind| listed.into_iter().flatten().any(|namespace| namespace.typ() == kind);
    if has(LinuxNamespaceType::Time) {
        all |= Namespaces::TIME;
    }
    let user = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    if has(LinuxNamespaceType::User) && user("self") != user(&record.pid.to_string()) {
        all |= Namespaces::USER;
    }
    all
}

fn enter_namespaces(context: &Context<'_>) -> failure::Result<()> {
    let all = context.namespaces;
    namespace::join(context.container.as_fd(), all).or_fail(|| "join namespaces of the container")?;
    if let Some(root) = &context.root {
        init::change_root(root.as_fd())?;
    }
    if all.contains(Namespaces::USER) { init::process::become_root() } else { Ok(()) }
}

fn attach_terminal(context: &Context<'_>) -> failure::Result<()> {
    let root = init::process::own_root()?;
    let size = init::console_size(&context.request.process);
    let (master, slave) = init::open_terminal(root.as_fd(), size)?;
    context.channel.terminal(master.as_fd())?;
    init::make_controlling(slave.as_fd())
}
