//! Another OCI runtime (runc, crun) makes the container: create, start and delete are its commands; streams, log, exit
//! status, exec and signals are ours as ever.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoist_sys::exec::{CStrings, execve};
use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::rootfs::{self, Kind};
use hoist_sys::{signal, socket};
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use rustix::net::RecvFlags;

use super::sources;
use crate::failure::{OrFail, Result};
use crate::init::{self, RootSource};
use crate::launch::Launch;
use crate::protocol::{Failure, FailureKind};

const BUNDLE: &str = "bundle";
/// In the bundle: where parts of sources are in the runtime's mount namespace.
const SOURCES: &str = "sources";
const LOG: &str = "log.json";
const PID_FILE: &str = "init.pid";
/// Relative to the bundle, in which the runtime runs: `sun_path` holds only 108 bytes.
const CONSOLE_SOCKET: &str = "console.sock";
/// What the runtime itself may look for.
const ENVIRONMENT: [&str; 1] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
/// What we ask of it is in this version of the runtime-spec, and some (crun 1.8) refuse those that are newer than they are.
const SPEC_VERSION: &str = "1.0.2";
/// Nothing that a runtime says about a failure is longer.
const MAX_LOG_BYTES: u64 = 64 * 1024;

/// The runtime and its bundle.
pub(super) struct External {
    program: PathBuf,
    arguments: Vec<String>,
    bundle: PathBuf,
    id: String,
}

/// What of the host only the runtime's `create` sees, in a mount namespace of its own.
struct Sight<'a> {
    root: &'a RootSource,
    /// Parts of sources of bind mounts, and where they are to be found. A path would be looked up again by the runtime,
    /// and lead where the container's links lead.
    sources: Vec<(PathBuf, OwnedFd)>,
}

/// What `create` left behind.
pub(super) struct Created {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) terminal: Option<OwnedFd>,
}

impl External {
    pub(super) fn new(launch: &Launch) -> Result<External> {
        let runtime = launch.external_runtime.as_ref().ok_or_else(|| Failure::other("no runtime"))?;
        if !runtime.path.is_absolute() {
            let path = runtime.path.display();
            return Err(Failure::other(format!("exec: \"{path}\": executable file not found in $PATH")));
        }
        if launch.seccomp_program.is_some() && launch.spec.linux().as_ref().is_none_or(|l| l.seccomp().is_none()) {
            return Err(Failure::other("an external runtime needs linux.seccomp in the spec"));
        }
        if launch.init {
            return Err(Failure::other("init is not supported with an external runtime"));
        }
        Ok(External {
            program: runtime.path.clone(),
            arguments: runtime.args.clone(),
            bundle: launch.run_dir.join(BUNDLE),
            id: launch.id.clone(),
        })
    }

    /// Writes the bundle and runs `create`.
    pub(super) fn create(&self, launch: &Launch, root: &RootSource, streams: Option<[OwnedFd; 3]>) -> Result<Created> {
        let sources = self.write_bundle(launch)?;
        let console = launch.stdio.tty.then(|| self.listen_for_console()).transpose()?;
        let mut command = vec!["create", "--bundle", ".", "--pid-file", PID_FILE];
        if console.is_some() {
            command.extend(["--console-socket", CONSOLE_SOCKET]);
        }
        command.push(&self.id);
        let (pid, pidfd) = self.spawn(&command, Some(&Sight { root, sources }), streams)?;
        let terminal = console.map(|console| receive_console(&console, &pidfd));
        self.wait(pid, "create")?;
        let terminal = terminal.transpose()?.flatten();
        let pid_file = self.bundle.join(PID_FILE);
        let pid = std::fs::read_to_string(&pid_file).or_fail(|| format!("read {}", pid_file.display()))?;
        let invalid = || Failure::other(format!("{}: not a pid", pid_file.display()));
        let pid = pid.trim().parse::<i32>().ok().and_then(rustix::process::Pid::from_raw).ok_or_else(invalid)?;
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .or_fail(|| "open pidfd of the container")?;
        if let Some(terminal) = &terminal {
            let size = launch.stdio.console_size;
            if size != (0, 0) {
                init::set_terminal_size(terminal.as_fd(), size).or_fail(|| "set terminal size")?;
            }
        }
        Ok(Created { pid: pid.as_raw_nonzero().get(), pidfd, terminal })
    }

    pub(super) fn start(&self) -> Result<()> {
        let (pid, _) = self.spawn(&["start", &self.id], None, None)?;
        self.wait(pid, "start")
    }

    /// Whatever can go wrong here has been told already, or nobody is left to care.
    pub(super) fn delete(&self) {
        if let Ok((pid, _)) = self.spawn(&["delete", "--force", &self.id], None, None) {
            let _ = process::wait(pid);
        }
        let _ = std::fs::remove_dir_all(&self.bundle);
    }

    /// Returns what the runtime has to find in its place besides.
    fn write_bundle(&self, launch: &Launch) -> Result<Vec<(PathBuf, OwnedFd)>> {
        let _ = std::fs::remove_dir_all(&self.bundle);
        let rootfs = self.bundle.join("rootfs");
        std::fs::create_dir_all(&rootfs).or_fail(|| format!("make {}", rootfs.display()))?;
        let mut spec = launch.spec.clone();
        spec.set_version(SPEC_VERSION.to_owned());
        let mut root = spec.root().clone().unwrap_or_default();
        root.set_path("rootfs".into());
        spec.set_root(Some(root));
        if let Some(process) = spec.process_mut() {
            process.set_terminal(Some(launch.stdio.tty));
        }
        let sources = self.place_sources(launch, &mut spec)?;
        let path = self.bundle.join("config.json");
        let content = serde_json::to_vec(&spec).map_err(|error| Failure::other(error.to_string()))?;
        std::fs::write(&path, content).or_fail(|| format!("write {}", path.display()))?;
        Ok(sources)
    }

    /// Makes the places where parts of sources are to be found, and names them in the spec.
    fn place_sources(&self, launch: &Launch, spec: &mut Spec) -> Result<Vec<(PathBuf, OwnedFd)>> {
        let directory = self.bundle.join(SOURCES);
        let mut placed = Vec::new();
        for (index, source) in sources::open_parts(launch)? {
            let place = directory.join(index.to_string());
            let failed = || format!("make {}", place.display());
            std::fs::create_dir_all(&directory).or_fail(failed)?;
            match rootfs::kind_of(source.as_fd()).or_fail(failed)? {
                Kind::Directory => std::fs::create_dir(&place).or_fail(failed)?,
                Kind::File => std::fs::write(&place, "").or_fail(failed)?,
            }
            if let Some(mount) = spec.mounts_mut().as_mut().and_then(|mounts| mounts.get_mut(index)) {
                mount.set_source(Some(place.clone()));
            }
            placed.push((place, source));
        }
        Ok(placed)
    }

    fn listen_for_console(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let bundle = rustix::fs::open(&self.bundle, flags, Mode::empty()).or_fail(|| "open bundle")?;
        socket::listen_stream(bundle.as_fd(), CONSOLE_SOCKET).or_fail(|| "listen for the terminal")
    }

    /// Runs a command of the runtime in the bundle. If there is something for it to see it gets a mount namespace for that.
    fn spawn(
        &self,
        command: &[&str],
        sight: Option<&Sight<'_>>,
        streams: Option<[OwnedFd; 3]>,
    ) -> Result<(i32, OwnedFd)> {
        let state = self.bundle.with_file_name("runtime");
        let log = self.bundle.join(LOG);
        let _ = std::fs::remove_file(&log);
        let program = self.program.as_os_str();
        let mut arguments = vec![program.to_owned()];
        arguments.extend(self.arguments.iter().map(Into::into));
        let global = ["--root".as_ref(), state.as_os_str(), "--log".as_ref(), log.as_os_str()];
        arguments.extend(global.map(ToOwned::to_owned));
        arguments.extend(["--log-format", "json"].map(Into::into));
        arguments.extend(command.iter().map(Into::into));
        let path = CStrings::new([program]).and_then(|_| Ok(std::ffi::CString::new(program.as_encoded_bytes())?));
        let path = path.or_fail(|| "path of the runtime")?;
        let arguments = CStrings::new(arguments).or_fail(|| "arguments of the runtime")?;
        let environment = CStrings::new(ENVIRONMENT).or_fail(|| "environment of the runtime")?;
        match process::clone(Namespaces::default(), None).or_fail(|| "fork for the runtime")? {
            Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
            Cloned::Child => {
                if enter(&self.bundle, sight, streams).is_ok() {
                    execve(&path, &arguments, &environment);
                }
                process::exit_now(127)
            }
        }
    }

    fn wait(&self, pid: i32, command: &str) -> Result<()> {
        let ended = process::wait(pid).or_fail(|| format!("wait for {}", self.program.display()))?;
        match ended.exit_code {
            0 => Ok(()),
            127 if !self.program.exists() => {
                Err(Failure::other(format!("runtime {} was not found", self.program.display())))
            }
            code => Err(self
                .logged_failure()
                .unwrap_or_else(|| Failure::other(format!("{} {command} ended with {code}", self.program.display())))),
        }
    }

    /// The last error in the runtime's log, without what our callers say themselves.
    fn logged_failure(&self) -> Option<Failure> {
        use std::io::Read;
        let mut content = String::new();
        File::open(self.bundle.join(LOG)).ok()?.take(MAX_LOG_BYTES).read_to_string(&mut content).ok()?;
        let errors = content.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let message = errors
            .filter(|entry| matches!(entry["level"].as_str(), Some("error" | "fatal")))
            .filter_map(|entry| entry["msg"].as_str().map(str::to_owned))
            .next_back()?;
        let mut message = message.as_str();
        for prefix in ["runc create failed: ", "runc start failed: ", "unable to start container process: "] {
            message = message.strip_prefix(prefix).unwrap_or(message);
        }
        Some(Failure { kind: kind_of(message), message: message.to_owned() })
    }
}

/// What runc (the first of each pair) and crun say of a command that cannot be executed.
fn kind_of(message: &str) -> FailureKind {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&[
        "executable file not found",
        "not found in $PATH",
        "no such file or directory",
        "No such file or directory",
    ]) {
        FailureKind::NotFound
    } else if says(&["permission denied", "Permission denied", "is a directory", "Is a directory"]) {
        FailureKind::NotExecutable
    } else {
        FailureKind::Other
    }
}

/// In the child that becomes the runtime.
fn enter(bundle: &Path, sight: Option<&Sight<'_>>, streams: Option<[OwnedFd; 3]>) -> Result<()> {
    signal::unblock_all().or_fail(|| "unblock signals")?;
    if let Some(sight) = sight {
        namespace::unshare(Namespaces::MOUNT).or_fail(|| "unshare mount namespace")?;
        init::attach_on(sight.root, &bundle.join("rootfs"))?;
        for (place, source) in &sight.sources {
            init::mounts::attach_source_on(source.as_fd(), place)?;
        }
    }
    if let Some(streams) = &streams {
        init::process::set_streams([streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()])?;
    }
    rustix::process::chdir(bundle).or_fail(|| "chdir to bundle")
}

/// The terminal's master that the runtime sends; `None` when it ends without.
fn receive_console(listener: &OwnedFd, runtime: &OwnedFd) -> Result<Option<OwnedFd>> {
    let mut connection = None;
    let mut set = Set::default();
    loop {
        set.clear();
        let ended = set.add(runtime.as_fd(), Interest::Read);
        let waiting = set.add(connection.as_ref().unwrap_or(listener).as_fd(), Interest::Read);
        set.wait(None).or_fail(|| "wait for the terminal")?;
        if set.ready(waiting).any() {
            match &connection {
                None => connection = Some(socket::accept(listener.as_fd()).or_fail(|| "accept the terminal")?),
                Some(socket) => {
                    // The data is the terminal's name; what counts is the fd.
                    let mut name = [0; 4096];
                    let (_, mut fds) = socket::receive(socket.as_fd(), &mut name, RecvFlags::empty())
                        .or_fail(|| "receive the terminal")?;
                    debug_assert!(fds.iter().all(|fd| fd.as_raw_fd() > 2));
                    return Ok(fds.pop());
                }
            }
        } else if set.ready(ended).any() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_executed_is_known_by_the_words_of_runc_and_crun() {
        for (message, kind) in [
            ("exec: \"nope\": executable file not found in $PATH", FailureKind::NotFound),
            ("exec: \"/nope\": stat /nope: no such file or directory", FailureKind::NotFound),
            ("executable file `nope` not found in $PATH: No such file or directory", FailureKind::NotFound),
            ("open executable: Permission denied", FailureKind::NotExecutable),
            ("exec: \"/etc\": is a directory", FailureKind::NotExecutable),
            ("unknown version specified", FailureKind::Other),
        ] {
            assert_eq!(kind_of(message), kind, "{message}");
        }
    }
}
