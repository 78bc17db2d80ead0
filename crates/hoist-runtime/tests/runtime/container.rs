//! A container made for one test, and removed with everything that belongs to it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hoist_runtime::cgroup;
use hoist_runtime::defaults;
use hoist_runtime::launch::{Launch, Log, LogFile, Rootfs, Stdio, Subpath};
use hoist_runtime::protocol::{Exit, Failure, FromSupervisor, State, ToSupervisor};
use hoist_runtime::spawner::{Link, Spawner};

pub(crate) const BUSYBOX: &str = "/bin/busybox";
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Container {
    pub(crate) directory: PathBuf,
    pub(crate) launch: Launch,
}

impl Container {
    /// busybox with an overlay root and Docker's default spec.
    pub(crate) fn new(args: &[&str]) -> Container {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("hoist-runtime-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        for name in ["lower/bin", "lower/etc", "lower/tmp", "lower/proc", "upper", "work", "state", "run"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        std::fs::copy(BUSYBOX, directory.join("lower/bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "false", "cat", "echo", "sleep", "id", "ls", "mount", "stty", "head", "seq", "readlink",
            "pwd", "env", "ps", "grep", "hostname", "yes", "kill", "tty", "stat", "touch", "dd", "sync", "umount",
            "printf", "wc", "mkdir", "test", "sed", "nc", "ip",
        ] {
            std::os::unix::fs::symlink("busybox", directory.join("lower/bin").join(applet)).unwrap();
        }
        std::fs::write(
            directory.join("lower/etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n",
        )
        .unwrap();
        let mut spec = defaults::default_spec(cgroup::version());
        spec.process_mut().as_mut().unwrap().set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()));
        let id = format!("{:064x}", u64::from(std::process::id()) << 32 | u64::from(number));
        spec.linux_mut().as_mut().unwrap().set_cgroups_path(Some(format!("/hoist-test/{id}").into()));
        let launch = Launch {
            id,
            spec,
            subpaths: Vec::new(),
            rootfs: Rootfs::Overlay {
                lower: vec![directory.join("lower")],
                upper: directory.join("upper"),
                work: directory.join("work"),
                volatile: true,
            },
            seccomp_program: None,
            stdio: Stdio::default(),
            log: Log::None,
            network: None,
            state_dir: directory.join("state"),
            run_dir: directory.join("run"),
            init: false,
            external_runtime: None,
        };
        Container { directory, launch }
    }

    /// Mounts of parts of one source: a directory behind a link, a file, and a link to the root, which is the source's.
    pub(crate) fn bind_parts(&mut self) {
        use std::os::unix::fs::symlink;
        let source = self.directory.join("source");
        std::fs::create_dir_all(source.join("real")).unwrap();
        std::fs::write(source.join("real/file"), "inside\n").unwrap();
        std::fs::write(source.join("only"), "only\n").unwrap();
        symlink("/real", source.join("link")).unwrap();
        symlink("/../..", source.join("root")).unwrap();
        for (destination, path) in [("/part", "link"), ("/only-file", "only"), ("/absent", "root")] {
            let options = ["rbind", "rprivate", "ro"];
            let json = serde_json::json!(
                {"destination": destination, "type": "bind", "source": source, "options": options}
            );
            self.launch.spec.mounts_mut().as_mut().unwrap().push(serde_json::from_value(json).unwrap());
            self.launch.subpaths.push(Subpath { destination: destination.into(), path: path.into() });
        }
    }

    pub(crate) fn lower(&self, path: &str) -> PathBuf {
        self.directory.join("lower").join(path)
    }

    /// Starts with one attachment for everything.
    pub(crate) fn run(&self, spawner: &Spawner) -> Running {
        let link = spawner.launch(&self.launch).unwrap();
        let (own, theirs) = UnixStream::pair().unwrap();
        let attach = ToSupervisor::Attach { stdin: self.launch.stdio.open_stdin, stdout: true, stderr: true };
        link.send(&attach, &[theirs.as_fd()]).unwrap();
        link.send(&ToSupervisor::Start, &[]).unwrap();
        Running { link, stream: Some(own) }
    }

    /// Runs to the end: what came out, and the exit or failure.
    pub(crate) fn output(&self, spawner: &Spawner) -> (Vec<u8>, Result<Exit, Failure>) {
        let mut running = self.run(spawner);
        let output = running.read_to_end();
        (output, running.end())
    }

    /// As `output`, of which only stdout is returned, and the exit code must be 0.
    pub(crate) fn stdout(&self, spawner: &Spawner) -> String {
        let (output, end) = self.output(spawner);
        let text = if self.launch.stdio.tty { output.clone() } else { demultiplex(&output, 1) };
        let text = String::from_utf8(text).unwrap();
        let errors = if self.launch.stdio.tty { Vec::new() } else { demultiplex(&output, 2) };
        let errors = String::from_utf8_lossy(&errors).into_owned();
        assert_eq!(end.as_ref().map(|exit| exit.exit_code), Ok(0), "{text}{errors}");
        text
    }

    /// stdout, whatever the exit code.
    pub(crate) fn stdout_any(&self, spawner: &Spawner) -> String {
        let (output, end) = self.output(spawner);
        end.unwrap();
        String::from_utf8(demultiplex(&output, 1)).unwrap()
    }

    /// Must not start: why.
    pub(crate) fn failure(&self, spawner: &Spawner) -> Failure {
        self.output(spawner).1.expect_err("container started")
    }
}

impl Container {
    pub(crate) fn log_entries(&self) -> Vec<serde_json::Value> {
        let content = std::fs::read_to_string(self.directory.join("log")).unwrap();
        content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn with_log(mut self) -> Container {
        let path = self.directory.join("log");
        self.launch.log = Log::File(LogFile { path, ..LogFile::default() });
        self
    }

    pub(crate) fn assert_nothing_left(&self) {
        for name in ["supervisor.sock", "supervisor.pid"] {
            wait_for(|| !self.directory.join("run").join(name).exists());
        }
        let path = self.launch.spec.linux().as_ref().unwrap().cgroups_path().clone().unwrap();
        wait_for(|| !exists_in_any_hierarchy(&path));
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(self.directory.to_str().unwrap()));
    }
}

fn exists_in_any_hierarchy(path: &Path) -> bool {
    let relative = path.strip_prefix("/").unwrap();
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap();
    hierarchies.flatten().any(|hierarchy| hierarchy.path().join(relative).exists())
        || Path::new("/sys/fs/cgroup").join(relative).exists()
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A container that was told to start.
pub(crate) struct Running {
    pub(crate) link: Link,
    pub(crate) stream: Option<UnixStream>,
}

impl Running {
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        if let Some(mut stream) = self.stream.take() {
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            stream.read_to_end(&mut output).unwrap();
        }
        output
    }

    /// Reads until `text` has come.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut output = Vec::new();
        let stream = self.stream.as_mut().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&output).contains(text) {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "end before {text:?}: {:?}", String::from_utf8_lossy(&output));
            output.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&output).into_owned()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next message that `pick` wants.
    pub(crate) fn wait_for<T>(&self, pick: impl Fn(FromSupervisor) -> Option<T>) -> T {
        receive(&self.link, pick)
    }

    pub(crate) fn started(&self) -> i32 {
        self.wait_for(|message| match message {
            FromSupervisor::Started { pid, .. } => Some(pid),
            FromSupervisor::StartFailed(failure) => panic!("{failure}"),
            _ => None,
        })
    }

    /// The pid, also when the message about the start was read already.
    pub(crate) fn started_pid(&self) -> i32 {
        self.link.send(&ToSupervisor::Status, &[]).unwrap();
        self.wait_for(|message| match message {
            FromSupervisor::Hello { state: State::Running { pid, .. }, .. } => Some(pid),
            // Output may come before it: then the answer was that it is about to run.
            FromSupervisor::Started { pid, .. } => Some(pid),
            _ => None,
        })
    }

    pub(crate) fn end(&self) -> Result<Exit, Failure> {
        self.wait_for(|message| match message {
            FromSupervisor::Exited(exit) => Some(Ok(exit)),
            FromSupervisor::StartFailed(failure) => Some(Err(failure)),
            _ => None,
        })
    }

    pub(crate) fn signal(&self, signal: i32) {
        self.link.send(&ToSupervisor::Signal { signal, all: false }, &[]).unwrap();
    }

    pub(crate) fn kill(&self) {
        self.signal(9);
        let _ = self.end();
    }
}

pub(crate) fn receive<T>(link: &Link, pick: impl Fn(FromSupervisor) -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match link.receive() {
            Ok(Some(message)) => {
                if let Some(found) = pick(message) {
                    return found;
                }
            }
            Ok(None) => panic!("supervisor ended"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "no message in time");
                wait_readable(link.as_fd());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn wait_readable(fd: BorrowedFd<'_>) {
    let mut set = hoist_sys::poll::Set::default();
    set.add(fd, hoist_sys::poll::Interest::Read);
    set.wait(Some(1000)).unwrap();
}

/// Waits, bounded, until a condition holds.
pub(crate) fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "condition did not come true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The data of one stream of stdcopy frames.
pub(crate) fn demultiplex(mut frames: &[u8], stream: u8) -> Vec<u8> {
    let mut data = Vec::new();
    while frames.len() >= 8 {
        let length = u32::from_be_bytes(frames[4..8].try_into().unwrap()) as usize;
        assert_eq!(&frames[1..4], &[0, 0, 0]);
        if frames[0] == stream {
            data.extend_from_slice(&frames[8..8 + length]);
        }
        frames = &frames[8 + length..];
    }
    data
}
