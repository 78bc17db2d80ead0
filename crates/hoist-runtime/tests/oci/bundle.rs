//! A bundle and a root for one test; removed with the container that may be left in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const BUSYBOX: &str = "/bin/busybox";
/// Parent of all control groups of these tests.
pub(crate) fn groups() -> String {
    format!("/hoist-test-oci-{}", std::process::id())
}
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) id: String,
    /// The process whose mount namespace the runtime is called in, if it is not ours.
    pub(crate) host: Option<String>,
}

impl Bundle {
    /// What `spec` writes, without a terminal, with this command.
    pub(crate) fn new(args: &[&str]) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("oci-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("hoist-{id}"));
        let bin = path.join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "sleep", "id", "ls", "env", "tty", "true", "grep", "readlink", "mount"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let bundle = Bundle { root: path.join("state"), path, id, host: None };
        bundle.run(&["spec", "-b", bundle.path.to_str().unwrap()]);
        bundle.change(|config| {
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = args.into();
            config["linux"]["cgroupsPath"] = format!("{}/{}", groups(), bundle.id).into();
        });
        bundle
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) {
        let file = self.path.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(&file, config.to_string()).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let program = std::env::current_exe().unwrap();
        let mut command = match &self.host {
            None => Command::new(program),
            Some(pid) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--mount=/proc/{pid}/ns/mnt")).args(["sh", "-c"]);
                // The namespace begins in its root.
                command.arg("cd \"$1\" && shift && exec \"$@\"").arg("sh").arg(&self.path).arg(program);
                command
            }
        };
        command.arg(super::AS_RUNTIME).arg("--root").arg(&self.root).args(args);
        command.current_dir(&self.path).stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command that succeeds prints.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that fails says.
    pub(crate) fn fail(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(!output.status.success(), "{args:?} succeeded: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn create(&self, flags: &[&str]) {
        self.run_with_log(&[&["create"], flags, &[self.id.as_str()]].concat());
    }

    pub(crate) fn run_detached(&self) {
        self.run_with_log(&["run", "--detach", &self.id]);
    }

    /// With standard streams that nobody waits for the end of: the container keeps them.
    fn run_with_log(&self, args: &[&str]) {
        let log = std::fs::File::create(self.path.join("output")).unwrap();
        let mut command = self.command(args);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        assert!(command.status().unwrap().success(), "{args:?}: {}", self.container_output());
    }

    pub(crate) fn container_output(&self) -> String {
        std::fs::read_to_string(self.path.join("output")).unwrap()
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.run(&["state", &self.id])).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn wait_for(&self, status: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while self.status() != status {
            assert!(Instant::now() < deadline, "{} instead of {status}", self.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Until the container has made a file in its root: its place on the host.
    pub(crate) fn wait_for_file(&self, name: &str) -> PathBuf {
        let (path, deadline) = (self.path.join("rootfs").join(name), Instant::now() + TIMEOUT);
        while !path.exists() {
            assert!(Instant::now() < deadline, "no {name}: {}", self.container_output());
            std::thread::sleep(Duration::from_millis(2));
        }
        path
    }

    /// Nothing is left of the container.
    pub(crate) fn assert_gone(&self) {
        assert!(!self.root.join(&self.id).exists(), "state is left");
        let group = hoist_runtime::cgroup::at(Path::new(&format!("{}/{}", groups(), self.id)));
        for (_, directory) in group.paths() {
            assert!(!directory.exists(), "{} is left", directory.display());
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.output(&["delete", "--force", &self.id]);
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
