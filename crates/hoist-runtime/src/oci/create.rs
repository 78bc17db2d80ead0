//! `create`: from a bundle to an init that waits for `start`. Everything is undone when it fails.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::{signal, socket};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::{SendFlags, SocketFlags};

use super::bundle::Bundle;
use super::clone::Group;
use super::fault::{Fault, Result, Trying};
use super::record::{self, GO, REPORT, Record};
use super::steps::Steps;
use super::{Globals, clock, clone, hooks, shared_mounts, user_namespace};
use crate::cgroup::Cgroup;
use crate::init::channel::{self, ParentChannel, Report};
use crate::init::{self, Context, Filter, Membership};
use crate::launch::{Launch, Log, Rootfs, Stdio};
use crate::supervisor::namespaces::{self, User};
use crate::supervisor::{intake, overlay, prepare};

/// Groups of containers whose bundle names none.
const DEFAULT_PARENT: &str = "/hoist-runtime";

/// What the command line asks for.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) bundle: Option<String>,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) pidfd_socket: Option<PathBuf>,
    pub(super) preserved_fds: u32,
    /// How many of these come from socket activation, which the program is told of.
    pub(super) listen_fds: u32,
    pub(super) new_keyring: bool,
    /// `run` in the foreground: the terminal comes back to the caller.
    pub(super) foreground: bool,
}

/// A created container.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) record: Record,
    pub(super) pidfd: OwnedFd,
    /// In the foreground: our side of the terminal.
    pub(super) terminal: Option<OwnedFd>,
}

/// Takes back what was made, last things first.
struct Undo {
    directory: PathBuf,
    cgroup: Option<Box<dyn Cgroup>>,
    child: Option<(i32, OwnedFd)>,
}

impl Undo {
    fn run(&mut self) {
        if let Some((pid, pidfd)) = self.child.take() {
            let _ = signal::send_by_pidfd(pidfd.as_fd(), signal::KILL);
            let _ = process::wait(pid);
        }
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.remove();
        }
        // Without the directory nobody would find what could not be taken away now.
        if shared_mounts::detach(&self.directory).is_ok() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

pub(super) fn create(globals: &Globals, request: &Request) -> Result<Created> {
    record::check_id(&request.id)?;
    let bundle = Bundle::load(request.bundle.as_deref())?;
    check_terminal(&bundle, request)?;
    let mut undo = Undo { directory: make_directory(&globals.root, &request.id)?, cgroup: None, child: None };
    let created = try_create(&bundle, request, &mut undo);
    if created.is_err() {
        undo.run();
    }
    created
}

fn try_create(bundle: &Bundle, request: &Request, undo: &mut Undo) -> Result<Created> {
    let mut record = Record {
        id: request.id.clone(),
        pid: 0,
        pid_started: 0,
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: clock::now(),
        cgroups_path: cgroups_path(bundle, &request.id)?,
        config: bundle.config.clone(),
        directory: undo.directory.clone(),
    };
    let mut launch = launch(bundle, &record, request.listen_fds);
    intake::check(&launch)?;
    user_namespace::check(&launch.spec)?;
    shared_mounts::check(&launch.spec)?;
    let filter = intake::filter(&mut launch)?;
    undo.cgroup = prepare::create_cgroup(&launch.spec)?;
    let (init, hook_socket) = clone_init(&launch, request, &record, filter, undo)?;
    let pidfd = init.pidfd;
    record.pid = init.pid;
    let terminal = wait_until_prepared(&init.channel, &hook_socket, &record, request)?;
    record.pid_started = record::start_time(record.pid).ok_or_else(|| Fault::new("init has ended"))?;
    record.save()?;
    if let Some(path) = &request.pid_file {
        record::write_atomically(path, record.pid.to_string().as_bytes())?;
    }
    if let Some(path) = &request.pidfd_socket {
        send_pidfd(path, &pidfd)?;
    }
    Ok(Created { record, pidfd, terminal })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn check_configuration(bundle: Bundle) {
    if super::bundle::check(&bundle.config).is_err() {
        return;
    }
    let Ok(cgroups_path) = cgroups_path(&bundle, "fuzz") else { return };
    let record = Record {
        id: "fuzz".to_owned(),
        pid: 0,
        pid_started: 0,
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: String::new(),
        cgroups_path,
        config: bundle.config.clone(),
        directory: bundle.path.clone(),
    };
    let mut launch = launch(&bundle, &record, 1);
    let _ = (intake::check(&launch), user_namespace::check(&launch.spec), shared_mounts::check(&launch.spec));
    let _ = intake::filter(&mut launch);
}

fn check_terminal(bundle: &Bundle, request: &Request) -> Result<()> {
    let terminal = bundle.config.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    match (terminal, &request.console_socket) {
        (true, None) if !request.foreground => {
            Err(Fault::new("cannot allocate tty if the runtime will detach without setting console socket"))
        }
        (false, Some(_)) => Err(Fault::new("cannot use console socket if the runtime will not allocate tty")),
        _ => Ok(()),
    }
}

fn make_directory(root: &Path, id: &str) -> Result<PathBuf> {
    let directory = root.join(id);
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700).recursive(true).create(root).trying(|| format!("make {}", root.display()))?;
    match builder.recursive(false).create(&directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Fault::new(format!("container with given ID already exists: {id}")))
        }
        made => made.trying(|| format!("make {}", directory.display())).map(|()| directory),
    }
}

fn cgroups_path(bundle: &Bundle, id: &str) -> Result<PathBuf> {
    let path = bundle.config.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()).unwrap_or_default();
    let text = path.to_string_lossy();
    if !text.starts_with('/') && text.split(':').count() == 3 {
        let why = "is in systemd's form, which is not supported: use the cgroupfs driver";
        return Err(Fault::new(format!("cgroupsPath {text:?} {why}")));
    }
    Ok(match path.components().count() {
        0 => Path::new(DEFAULT_PARENT).join(id),
        _ => Path::new("/").join(path),
    })
}

/// The bundle as a launch; what concerns supervisors stays empty.
fn launch(bundle: &Bundle, record: &Record, listen_fds: u32) -> Launch {
    let mut spec = bundle.config.clone();
    let process = spec.process().clone();
    if process.is_none() {
        // A configuration without a process makes a container that cannot be started.
        spec.set_process(Some(Default::default()));
    }
    if let Some(environment) = spec.process_mut().as_mut().and_then(|process| process.env_mut().as_mut())
        && listen_fds > 0
    {
        environment.extend([format!("LISTEN_FDS={listen_fds}"), "LISTEN_PID=1".to_owned()]);
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(record.cgroups_path.clone()));
    }
    let size = process.as_ref().map_or((0, 0), init::console_size);
    let tty = process.as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    Launch {
        id: record.id.clone(),
        spec,
        subpaths: Vec::new(),
        rootfs: Rootfs::Directory(bundle.rootfs.clone()),
        seccomp_program: None,
        stdio: Stdio { tty, open_stdin: true, stdin_once: false, console_size: size },
        log: Log::None,
        network: None,
        state_dir: record.directory.clone(),
        run_dir: record.directory.clone(),
        init: false,
        external_runtime: None,
    }
}

struct Init {
    pid: i32,
    pidfd: OwnedFd,
    channel: ParentChannel,
}

fn clone_init(
    launch: &Launch,
    request: &Request,
    record: &Record,
    filter: Option<Filter>,
    undo: &mut Undo,
) -> Result<(Init, OwnedFd)> {
    let mut plan = namespaces::plan(&launch.spec)?;
    let proc = init::HostProc::open()?;
    let root = if plan.shares_mounts {
        shared_mounts::attach(&record.rootfs, &record.directory)?
    } else {
        overlay::open(&launch.rootfs)?
    };
    let shared_sources = user_namespace::open_sources(&launch.spec, plan.user != User::Own)?;
    let (channel, child_channel) = channel::pair().trying(|| "make channel to init")?;
    let (hook_socket, hooks) = socket::pair(SocketFlags::empty()).trying(|| "make socket for hooks")?;
    let steps = Steps {
        hooks,
        go: open_fifo(&record.directory, GO)?,
        report: open_fifo(&record.directory, REPORT)?,
        state: record.state("creating"),
        preserved_fds: request.preserved_fds,
        new_keyring: request.new_keyring,
    };
    let streams = if launch.stdio.tty { None } else { Some(own_streams()?) };
    let Some(linux) = launch.spec.linux() else { return Err(Fault::new("linux is not set in the configuration")) };
    let cgroup = undo.cgroup.as_deref();
    let into = cgroup.map(Cgroup::clone_into_fd).transpose().trying(|| "open cgroup")?.flatten();
    match clone::clone_init(&mut plan, linux, Group { cgroup, fd: into.as_ref() })? {
        Cloned::Parent { pid, pidfd } => {
            undo.child = Some((pid, pidfd.try_clone().trying(|| "duplicate pidfd")?));
            clone::prepare_user(&plan, launch, pid)?;
            if plan.user != User::Own {
                // One that is gone by now tells why itself.
                let _ = channel.maps_are_written();
            }
            Ok((Init { pid, pidfd, channel }, hook_socket))
        }
        Cloned::Child => {
            drop((channel, hook_socket));
            init::run(Context {
                launch,
                root: Some(&root),
                proc,
                join: plan.join,
                own_network: plan.created.contains(Namespaces::NETWORK),
                kit: None,
                new_cgroup_namespace: plan.new_cgroup,
                user: plan.user,
                cgroup,
                membership: if into.is_some() { Membership::Member } else { Membership::Outside },
                shared_sources,
                streams,
                filter,
                network_pending: false,
                go: false,
                channel: child_channel,
                oci: Some(steps),
            })
        }
    }
}

/// Clones into a pid namespace; hooks and the like are born in our own again.
pub(super) fn clone_in_pid_namespace(
    target: Option<&OwnedFd>,
    created: Namespaces,
    cgroup: Option<&OwnedFd>,
) -> Result<Cloned> {
    let own: OwnedFd = fs::File::open("/proc/self/ns/pid").trying(|| "open /proc/self/ns/pid")?.into();
    if let Some(target) = target {
        namespace::join(target.as_fd(), Namespaces::PID).trying(|| "join pid namespace")?;
    }
    let cloned = process::clone(created, cgroup.map(AsFd::as_fd)).trying(|| "clone process")?;
    if target.is_some() && !matches!(cloned, Cloned::Child) {
        namespace::join(own.as_fd(), Namespaces::PID).trying(|| "return to own pid namespace")?;
    }
    Ok(cloned)
}

/// Our standard streams are the container's. Copies, because the originals' numbers are where they go.
pub(super) fn own_streams() -> Result<[OwnedFd; 3]> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).trying(|| "duplicate stream");
    Ok([copy(rustix::stdio::stdin())?, copy(rustix::stdio::stdout())?, copy(rustix::stdio::stderr())?])
}

/// Open for reading and writing, so that it neither blocks nor ends for want of somebody at the other end.
fn open_fifo(directory: &Path, name: &str) -> Result<OwnedFd> {
    let path = directory.join(name);
    let failed = || format!("make {}", path.display());
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).trying(failed)?;
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).trying(failed)
}

fn wait_until_prepared(
    channel: &ParentChannel,
    hook_socket: &OwnedFd,
    record: &Record,
    request: &Request,
) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    let mut set = Set::default();
    loop {
        set.clear();
        let (reports, asked) = (set.add(channel.as_fd(), Interest::Read), set.add(hook_socket.as_fd(), Interest::Read));
        set.wait(None).trying(|| "wait for init")?;
        if set.ready(asked).read {
            let mut byte = [0; 1];
            if rustix::io::read(hook_socket, &mut byte).trying(|| "hear of hooks")? == 1 {
                run_runtime_hooks(record)?;
                rustix::io::write(hook_socket, b"C").trying(|| "answer init")?;
            }
        }
        if !set.ready(reports).any() {
            continue;
        }
        match channel.receive() {
            Ok(Some(Report::Prepared(_))) => return Ok(terminal),
            Ok(Some(Report::Failed(failure))) => {
                return Err(Fault::from(failure).within("unable to start container process"));
            }
            Ok(Some(Report::Terminal(master))) => match &request.console_socket {
                Some(path) => send_terminal(path, master)?,
                None => terminal = Some(master),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(None) => return Err(Fault::new("container init ended without a word")),
            Err(error) => return Err(error).trying(|| "hear of init"),
        }
    }
}

fn run_runtime_hooks(record: &Record) -> Result<()> {
    let Some(all) = record.config.hooks() else { return Ok(()) };
    let state = record.state("creating");
    #[allow(deprecated)] // Deprecated by the specification, used by many.
    hooks::run("prestart", all.prestart().as_ref(), &state)?;
    hooks::run("createRuntime", all.create_runtime().as_ref(), &state)
}

/// As engines expect it: one message on a stream socket with the terminal's master.
pub(super) fn send_terminal(path: &Path, master: OwnedFd) -> Result<()> {
    send_fd(path, b"/dev/ptmx", master)
}

/// `--pidfd-socket`.
pub(super) fn send_pidfd(path: &Path, pidfd: &OwnedFd) -> Result<()> {
    send_fd(path, b"pidfd", pidfd.try_clone().trying(|| "duplicate pidfd")?)
}

fn send_fd(path: &Path, name: &[u8], fd: OwnedFd) -> Result<()> {
    let failed = || format!("send {} to socket {}", String::from_utf8_lossy(name), path.display());
    let stream = UnixStream::connect(path).trying(failed)?;
    socket::send(stream.as_fd(), name, &[fd.as_fd()], SendFlags::empty()).trying(failed)
}
