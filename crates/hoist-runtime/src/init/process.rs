//! The last part, the same for a container's first process and for exec'd ones: limits, user, working directory, command
//! look-up, seccomp, capabilities, execve.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use hoist_sys::capability::{self, Set};
use hoist_sys::exec::{CStrings, execve};
use hoist_sys::seccomp::Program;
use oci_spec::runtime::{Capabilities, PosixRlimitType, Process};
use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::host_proc::HostProc;
use crate::failure::{OrFail, Result, text};
use crate::protocol::{Failure, FailureKind};

/// A seccomp filter and the flags to load it with.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) program: Program,
    pub(crate) flags: u32,
}

/// Everything looked up and allocated; what is left to do is final.
pub(crate) struct Prepared {
    path: CString,
    arguments: CStrings,
    environment: CStrings,
    filter: Option<Filter>,
    sets: Sets,
    no_new_privileges: bool,
}

/// The five capability sets.
#[derive(Clone, Copy, Default)]
struct Sets {
    bounding: Set,
    effective: Set,
    permitted: Set,
    inheritable: Set,
    ambient: Set,
}

/// Puts three fds on 0, 1 and 2.
pub(crate) fn set_streams(streams: [BorrowedFd<'_>; 3]) -> Result<()> {
    // None of the sources can be 0 to 2: the supervisor keeps these open.
    rustix::stdio::dup2_stdin(streams[0]).or_fail(|| "set stdin")?;
    rustix::stdio::dup2_stdout(streams[1]).or_fail(|| "set stdout")?;
    rustix::stdio::dup2_stderr(streams[2]).or_fail(|| "set stderr")
}

/// Of the calling process.
pub(crate) fn set_oom_score(process: &Process, proc: &HostProc) -> Result<()> {
    set_oom_score_of("self", process, proc)
}

fn set_oom_score_of(pid: &str, process: &Process, proc: &HostProc) -> Result<()> {
    match process.oom_score_adj() {
        None => Ok(()),
        Some(score) => {
            proc.write(&format!("{pid}/oom_score_adj"), &score.to_string()).or_fail(|| "write oom_score_adj")
        }
    }
}

/// What the root of a user namespace may not set for itself, from outside.
pub(crate) fn set_privileged(pid: i32, process: &Process) -> Result<()> {
    set_oom_score_of(&pid.to_string(), process, &HostProc::open()?)?;
    set_limits(rustix::process::Pid::from_raw(pid), process)
}

/// The same before a process enters the user namespace.
pub(crate) fn set_own_limits(process: &Process) -> Result<()> {
    set_limits(None, process)
}

/// In a user namespace just entered: its root, with no other groups.
pub(crate) fn become_root() -> Result<()> {
    match rustix::thread::set_thread_groups(&[]) {
        // Where the namespace's maker was not allowed to let groups be set.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error).or_fail(|| "setgroups in user namespace"),
    }
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).or_fail(|| "setgid to root of user namespace")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).or_fail(|| "setuid to root of user namespace")
}

/// As runc does: a working directory that is not there is made. If that fails, chdir will tell.
pub(crate) fn make_working_directory(root: BorrowedFd<'_>, path: &Path) {
    let _ = hoist_sys::rootfs::make_directories(root, path, Mode::from_raw_mode(0o755));
}

/// All that needs privileges or look-ups. Afterwards the process is the user's but for seccomp and some capabilities.
pub(crate) fn prepare(process: &Process, filter: Option<Filter>) -> Result<Prepared> {
    super::scheduling::set(process)?;
    set_limits(None, process)?;
    let sets = sets(process)?;
    let environment = environment(process);
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    own_streams(process.user().uid())?;
    capability::limit_bounding(sets.bounding).or_fail(|| "unable to drop bounding capabilities")?;
    let entered = enter_directory(process.cwd());
    become_user(process, sets)?;
    match entered {
        // A directory that only its owner may enter (NFS with squashed root).
        Err(Errno::ACCESS | Errno::PERM) => enter_directory(process.cwd()),
        entered => entered,
    }
    .map_err(|error| chdir_failure(process.cwd(), error))?;
    check_directory()?;
    let command = process
        .args()
        .as_ref()
        .and_then(|args| args.first())
        .ok_or_else(|| Failure { kind: FailureKind::NotFound, message: "args must not be empty".to_owned() })?;
    let path = look_up(command, &environment)?;
    let invalid = || "invalid argument or environment";
    let prepared = Prepared {
        path: CString::new(path.into_vec()).map_err(|_| Failure::other("NUL in path of command"))?,
        arguments: CStrings::new(process.args().iter().flatten()).or_fail(invalid)?,
        environment: CStrings::new(&environment).or_fail(invalid)?,
        filter,
        sets,
        no_new_privileges,
    };
    hoist_sys::fd::set_cloexec_from(3).or_fail(|| "close_range")?;
    Ok(prepared)
}

impl Prepared {
    /// Seccomp and the final capabilities. Few system calls follow the filter: it need only allow capset, prctl, read,
    /// write and execve.
    pub(crate) fn confine(mut self) -> Result<Prepared> {
        let sets = self.sets;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).or_fail(|| "set no_new_privs")?;
        }
        if let Some(filter) = self.filter.take() {
            // Without no_new_privs the kernel wants CAP_SYS_ADMIN for this; it is still permitted.
            let permitted = capability::permitted().or_fail(|| "read capabilities")?;
            capability::set(permitted, permitted, sets.inheritable).or_fail(|| "unable to apply caps")?;
            filter.program.load(filter.flags).or_fail(|| "unable to init seccomp")?;
        }
        capability::set(sets.effective, sets.permitted, sets.inheritable).or_fail(|| "unable to apply caps")?;
        if !sets.ambient.is_empty() {
            capability::set_ambient(sets.ambient).or_fail(|| "unable to apply ambient caps")?;
        }
        Ok(self)
    }

    /// Runs the program. When the kernel refuses it (wrong format, interpreter missing) the words go where its own would
    /// have gone, and it counts as started and ended with 255, as with runc.
    pub(crate) fn exec(self) -> ! {
        let error = execve(&self.path, &self.arguments, &self.environment);
        let words = format!("exec {}: {}\n", self.path.to_string_lossy(), text(error));
        let _ = rustix::io::write(rustix::stdio::stderr(), words.as_bytes());
        hoist_sys::process::exit_now(255)
    }
}

/// Streams belong to the user, so that /dev/stdout can be opened again. /dev/null stays as it is.
fn own_streams(uid: u32) -> Result<()> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let stat = rustix::fs::fstat(stream).or_fail(|| "fstat of stream")?;
        let null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3);
        if stat.st_uid == uid || null {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
            // An exec'd process may be given streams on filesystems that do not know this user.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(error) => return Err(error).or_fail(|| "chown of stream"),
        }
    }
    Ok(())
}

/// Refuses the id with all bits set: to setresuid(2) it means "leave as it is", which is the superuser.
fn check_user(process: &Process) -> Result<()> {
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().copied();
    match [user.uid(), user.gid()].into_iter().chain(groups).find(|id| *id == u32::MAX) {
        Some(id) => Err(Failure::other(format!("invalid user: {id} is no id"))),
        None => Ok(()),
    }
}

fn become_user(process: &Process, sets: Sets) -> Result<()> {
    check_user(process)?;
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    capability::keep_over_setuid(true).or_fail(|| "set keep caps")?;
    // The raw calls, for this thread: libc's wait for threads that a raw clone does not have.
    rustix::thread::set_thread_groups(&groups).or_fail(|| "setgroups")?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    rustix::thread::set_thread_res_gid(gid, gid, gid).or_fail(|| "setgid")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).or_fail(|| "setuid")?;
    capability::keep_over_setuid(false).or_fail(|| "clear keep caps")?;
    rustix::process::umask(Mode::from_raw_mode(user.umask().unwrap_or(0o022)));
    // From here on files are seen as the program will see them.
    let permitted = capability::permitted().or_fail(|| "read capabilities")?;
    capability::set(sets.effective, permitted.union(sets.permitted), sets.inheritable)
        .or_fail(|| "unable to apply caps")
}

/// chdir without magic links: `/proc/self/fd/N` would lead out of the container.
fn enter_directory(path: &Path) -> std::result::Result<(), Errno> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    rustix::process::fchdir(directory)
}

fn chdir_failure(path: &Path, error: Errno) -> Failure {
    let kind = match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => FailureKind::NotFound,
        Errno::ACCESS | Errno::PERM => FailureKind::NotExecutable,
        _ => FailureKind::Other,
    };
    Failure { kind, message: format!("chdir to cwd ({path:?}) set in config.json failed: {}", text(error)) }
}

/// getcwd(2) tells when the directory cannot be reached from the root.
fn check_directory() -> Result<()> {
    let escaped = || Failure::other("current working directory is outside of container mount namespace root");
    let path = rustix::process::getcwd(Vec::new()).map_err(|_| escaped())?;
    if path.as_bytes().starts_with(b"/") { Ok(()) } else { Err(escaped()) }
}

fn environment(process: &Process) -> Vec<OsString> {
    let mut environment: Vec<OsString> = process.env().iter().flatten().map(OsString::from).collect();
    if !environment.iter().any(|entry| entry.as_bytes().starts_with(b"HOME=")) {
        let mut home = OsString::from("HOME=");
        home.push(crate::user::home_of(process.user().uid()));
        environment.push(home);
    }
    environment
}

/// Go's exec.LookPath with the container's PATH: same rules, same texts.
fn look_up(command: &str, environment: &[OsString]) -> Result<OsString> {
    let fail = |kind, reason: &str| Failure { kind, message: format!("exec: {command:?}: {reason}") };
    if command.contains('/') {
        return match check_executable(Path::new(command)) {
            Ok(()) => Ok(command.into()),
            Err((Errno::NOENT, _)) => {
                Err(fail(FailureKind::NotFound, &format!("stat {command}: no such file or directory")))
            }
            Err((Errno::ACCESS, "stat")) => {
                Err(fail(FailureKind::NotExecutable, &format!("stat {command}: permission denied")))
            }
            Err((error, "stat")) => Err(fail(FailureKind::Other, &format!("stat {command}: {}", text(error)))),
            Err((error, _)) => Err(fail(FailureKind::NotExecutable, &text(error))),
        };
    }
    let path = environment.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    for directory in path.unwrap_or_default().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(directory)) };
        let candidate = directory.join(command);
        if !command.is_empty() && path.is_some() && check_executable(&candidate).is_ok() {
            return Ok(candidate.into());
        }
    }
    Err(fail(FailureKind::NotFound, "executable file not found in $PATH"))
}

/// The error says which call it came from.
fn check_executable(path: &Path) -> std::result::Result<(), (Errno, &'static str)> {
    let stat = rustix::fs::stat(path).map_err(|error| (error, "stat"))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err((Errno::ISDIR, "directory"));
    }
    // Whoever asks for /proc/self/exe means this program, which is no part of the container.
    if rustix::fs::stat("/proc/self/exe").is_ok_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino)) {
        return Err((Errno::ACCESS, "own program"));
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).map_err(|error| (error, "access"))?;
    if stat.st_mode & 0o111 == 0 { Err((Errno::ACCESS, "mode")) } else { Ok(()) }
}

fn sets(process: &Process) -> Result<Sets> {
    let Some(capabilities) = process.capabilities() else { return Ok(Sets::default()) };
    let set = |names: &Option<Capabilities>| {
        let mut set = Set::default();
        for capability in names.iter().flatten() {
            let name = format!("CAP_{capability}");
            match Set::named(&name) {
                Some(member) => set = set.union(member),
                None => return Err(Failure::other(format!("unknown capability {name:?}"))),
            }
        }
        Ok(set)
    };
    let sets = Sets {
        bounding: set(capabilities.bounding())?,
        effective: set(capabilities.effective())?,
        permitted: set(capabilities.permitted())?,
        inheritable: set(capabilities.inheritable())?,
        ambient: set(capabilities.ambient())?,
    };
    let available = capability::permitted().or_fail(|| "read capabilities")?;
    let missing = sets.permitted.union(sets.effective).without(available);
    match missing.names().next() {
        Some(name) => Err(Failure::other(format!("unable to apply caps: {name} is not available here"))),
        None => Ok(sets),
    }
}

/// Of another process, or of this one.
fn set_limits(pid: Option<rustix::process::Pid>, process: &Process) -> Result<()> {
    for limit in process.rlimits().iter().flatten() {
        let kind = limit.typ();
        let resource = resource(kind);
        let value = |value: u64| (value != u64::MAX).then_some(value);
        let new = Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) };
        rustix::process::prlimit(pid, resource, new).or_fail(|| format!("error setting rlimit type {kind}"))?;
    }
    Ok(())
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// For exec'd processes: the container's root as they see it.
pub(crate) fn own_root() -> Result<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).or_fail(|| "open /")
}
