//! An engine for a test: one of our own in a root of its own, or the peer that the environment names.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::api::Api;
use crate::command::{self, Ran, wait_for_end};
use crate::settings;

/// A running engine. When dropped, an engine of ours is emptied and ended, and what it left behind fails the test.
pub struct Engine {
    pub socket: PathBuf,
    own: Option<Own>,
}

struct Own {
    child: Child,
    directory: TempDir,
    binary: PathBuf,
    bridge: String,
    /// The control group below which all containers of this engine are.
    cgroup: String,
    arguments: Vec<String>,
}

impl Engine {
    /// The peer, if there is one; else an engine of ours.
    #[track_caller]
    pub fn start(options: &[String]) -> Self {
        match settings::peer_socket() {
            Some(socket) => Self { socket, own: None },
            None => Self::start_own(options),
        }
    }

    /// An engine of ours with these options besides the ones that give it a place of its own.
    #[track_caller]
    pub fn start_own(options: &[String]) -> Self {
        Self::start_in(new_directory(), options)
    }

    /// An engine of ours whose root is on a disk of its own, of so many megabytes.
    #[track_caller]
    pub fn start_on_small_disk(megabytes: usize) -> Self {
        let directory = new_directory();
        let root = directory.path().join("d");
        fs::create_dir(&root).unwrap();
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "small"]).arg(&root).status();
        assert!(mounted.is_ok_and(|status| status.success()), "cannot mount a tmpfs on {}", root.display());
        Self::start_in(directory, &[])
    }

    /// The same on a file system that is made in a file; none if that cannot be done here.
    #[track_caller]
    pub fn start_on_small_ext4(megabytes: u64) -> Option<Self> {
        let directory = new_directory();
        let (root, disk) = (directory.path().join("d"), directory.path().join("disk"));
        fs::create_dir(&root).unwrap();
        File::create(&disk).unwrap().set_len(megabytes << 20).unwrap();
        let does = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let is_made = does(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&disk))
            && does(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(&root));
        is_made.then(|| Self::start_in(directory, &[]))
    }

    #[track_caller]
    fn start_in(directory: TempDir, options: &[String]) -> Self {
        let binary = settings::binary().expect("no hoist binary: build it, or set HOIST_TEST_BINARY");
        let mut random = rand::rng();
        let bridge = format!("ht{:08x}", random.random::<u32>());
        let cgroup = format!("hoist-test-{}", &bridge[2..]);
        // Room for the thousand ports that a bridge has.
        let subnet = format!("10.{}.{}.1/22", random.random_range(64..=127), random.random_range(0..=63) * 4);
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut arguments: Vec<String> =
            ["engine", "--root", &path("d"), "--run-dir", &path("r"), "-H"].map(Into::into).into();
        arguments.push(format!("unix://{}", path("s.sock")));
        arguments.extend(["--pidfile", &path("pid"), "--bridge", &bridge, "--cgroup-parent", &cgroup].map(Into::into));
        if !options.iter().any(|option| option == "--bip") {
            arguments.extend(["--bip".into(), subnet]);
        }
        arguments.extend(options.iter().cloned());
        let child = spawn(&binary, &arguments, directory.path());
        let socket = directory.path().join("s.sock");
        let mut engine = Self { socket, own: Some(Own { child, directory, binary, bridge, cgroup, arguments }) };
        engine.wait_until_up();
        engine
    }

    pub fn api(&self) -> Api {
        Api::unix(&self.socket)
    }

    /// Whether this engine is ours, to configure, kill and start again.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    #[track_caller]
    fn own(&mut self) -> &mut Own {
        self.own.as_mut().expect("an engine of our own")
    }

    pub fn pid(&self) -> Option<Pid> {
        self.own.as_ref().map(|own| Pid::from_child(&own.child))
    }

    /// The highest resident memory that an engine of ours had, in kB.
    pub fn peak_kb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?.as_raw_nonzero())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().split(' ').next()?.parse().ok()
    }

    /// The directory that holds everything of an engine of ours.
    pub fn directory(&self) -> &Path {
        self.own.as_ref().expect("an engine of our own").directory.path()
    }

    /// The executable, if the engine is ours.
    pub fn own_binary(&self) -> Option<std::path::PathBuf> {
        self.own.as_ref().map(|own| own.binary.clone())
    }

    /// The executable of an engine of ours.
    pub fn binary(&self) -> &Path {
        &self.own.as_ref().expect("an engine of our own").binary
    }

    pub fn bridge(&self) -> &str {
        &self.own.as_ref().expect("an engine of our own").bridge
    }

    /// Whether an engine of ours still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.own().child.try_wait(), Ok(None))
    }

    /// Tries to start another engine in the same place.
    #[track_caller]
    pub fn start_twin(&self) -> Ran {
        let own = self.own.as_ref().expect("an engine of our own");
        let mut command = Command::new(&own.binary);
        command.args(&own.arguments).env("HOME", own.directory.path());
        command::run(command, b"")
    }

    /// What the engine logged.
    pub fn log(&self) -> String {
        self.own.as_ref().and_then(|own| fs::read_to_string(own.directory.path().join("log")).ok()).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let own = self.own();
        own.child.kill().unwrap();
        own.child.wait().unwrap();
    }

    /// Ends it as systemd does.
    #[track_caller]
    pub fn terminate(&mut self) {
        let own = self.own();
        let _ = kill_process(Pid::from_child(&own.child), Signal::TERM);
        assert!(
            wait_for_end(&mut own.child, Duration::from_secs(30)),
            "the engine does not end on SIGTERM:\n{}",
            self.log()
        );
        self.own().child.wait().unwrap();
    }

    /// Starts it again in the same place.
    #[track_caller]
    pub fn start_again(&mut self) {
        let own = self.own();
        own.child = spawn(&own.binary, &own.arguments, own.directory.path());
        self.wait_until_up();
    }

    #[track_caller]
    fn wait_until_up(&mut self) {
        let start = Instant::now();
        let api = self.api();
        while !api.try_request("GET", "/_ping", &[], b"").is_ok_and(|reply| reply.status == 200) {
            let has_ended = !matches!(self.own().child.try_wait(), Ok(None));
            if has_ended || start.elapsed() > Duration::from_secs(20) {
                panic!("the engine does not come up:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

/// Short, because a unix socket's path has room for 107 bytes.
fn new_directory() -> TempDir {
    tempfile::Builder::new().prefix("hoist-").rand_bytes(5).tempdir().unwrap()
}

fn spawn(binary: &Path, arguments: &[String], directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.env("HOME", directory);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary.display()))
}

impl Drop for Engine {
    fn drop(&mut self) {
        let api = self.api();
        let Some(own) = &mut self.own else { return };
        if matches!(own.child.try_wait(), Ok(None)) {
            remove_containers(&api, "");
            let _ = kill_process(Pid::from_child(&own.child), Signal::TERM);
            if !wait_for_end(&mut own.child, Duration::from_secs(15)) {
                let _ = own.child.kill();
            }
            let _ = own.child.wait();
        }
        // The disk of `start_on_small_disk` is ours, not the engine's.
        let _ = Command::new("umount").arg(own.directory.path().join("d")).output();
        let left = clean_up(own);
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().nth_back(6000).map_or(0, |(at, _)| at);
            println!("--- the engine's log\n{}\n---", &log[from..]);
        } else {
            assert!(left.is_empty(), "left behind by the engine: {left:#?}\n{}", self.log());
        }
    }
}

/// Removes the containers of an engine that have this label; without a label, all.
pub(crate) fn remove_containers(api: &Api, label: &str) {
    let filters = match label {
        "" => String::new(),
        label => format!("&filters=%7B%22label%22%3A%5B%22{label}%22%5D%7D"),
    };
    let Ok(list) = api.try_request("GET", &format!("/containers/json?all=1{filters}"), &[], b"") else { return };
    let Ok(serde_json::Value::Array(list)) = serde_json::from_slice(&list.body) else { return };
    for container in list {
        let id = container["Id"].as_str().unwrap_or_default();
        let _ = api.try_request("DELETE", &format!("/containers/{id}?force=1&v=1"), &[], b"");
    }
}

/// Removes what an engine that ended still has in the kernel, and tells what that was. An empty bridge and an empty control
/// group above the containers' may stay, as Docker's do.
fn clean_up(own: &Own) -> Vec<String> {
    let needle = own.directory.path().display().to_string();
    let start = Instant::now();
    let mut left;
    // Tear-down goes on in the background for a moment after the engine answered.
    loop {
        left = Vec::new();
        left.extend(processes(&needle).into_iter().map(|(pid, line)| format!("process {pid} {line}")));
        left.extend(mounts(&needle).into_iter().map(|point| format!("mount {point}")));
        left.extend(children(&Path::new("/sys/class/net").join(&own.bridge).join("brif")));
        left.extend(
            cgroups(&own.cgroup).iter().flat_map(|group| children(group)).filter(|path| Path::new(path).is_dir()),
        );
        if left.is_empty() || start.elapsed() > Duration::from_secs(3) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for (pid, _) in processes(&needle) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for point in mounts(&needle).iter().rev() {
        let _ = Command::new("umount").args(["-l", point]).output();
    }
    for group in cgroups(&own.cgroup) {
        let _ = fs::remove_dir(group);
    }
    let _ = Command::new("ip").args(["link", "delete", &own.bridge]).output();
    let _ = Command::new("nft").args(["delete", "table", "inet", &format!("hoist-{}", own.bridge)]).output();
    left
}

/// What is in a directory.
fn children(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// The group of this name in each hierarchy, or in the only one.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = children(root).into_iter().map(PathBuf::from).chain([root.to_path_buf()]);
    hierarchies.map(|hierarchy| hierarchy.join(name)).filter(|group| group.is_dir()).collect()
}

/// Processes whose command line names the directory, which is random.
fn processes(needle: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(needle) && pid != std::process::id() as i32 {
            found.push((pid, line));
        }
    }
    found
}

fn mounts(needle: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.contains(needle)).map(str::to_string).collect()
}
