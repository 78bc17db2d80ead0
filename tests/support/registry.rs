//! A registry on a loopback port, the real distribution registry or our own, and a small pusher that fills it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::api::Api;
use crate::command::wait_for_end;
use crate::image::{Image, LAYER_TYPE, MANIFEST_TYPE, digest};
use crate::{patience, settings};

/// User `u`, password `p`, as htpasswd(1) writes it.
const PASSWORD_FILE: &str = "u:$2b$05$abcdefghijklmnopqrstuuqwWMzKt5N8p.u2GX5MuH1t19BMWuLOW\n";

/// A registry with a storage of its own, without TLS or users. Ends when dropped.
pub struct Registry {
    child: Child,
    pub port: u16,
    api: Api,
    storage: TempDir,
}

impl Registry {
    /// None where the test bed has no registry.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// One that lets nobody in but user `u` with password `p`.
    pub fn with_password() -> Option<Self> {
        Self::start_with("auth: { htpasswd: { realm: test, path: STORAGE/htpasswd } }\n")
    }

    /// `more` is added to its configuration; STORAGE stands for its directory.
    fn start_with(more: &str) -> Option<Self> {
        let program = settings::test_bed().join("docker-registry");
        if !program.is_file() {
            return None;
        }
        let storage = tempfile::Builder::new().prefix("hoist-registry-").tempdir().unwrap();
        std::fs::write(storage.path().join("htpasswd"), PASSWORD_FILE).unwrap();
        let more = more.replace("STORAGE", &storage.path().display().to_string());
        // A port that was free a moment ago can be taken in between: then the registry ends at once, and the next is tried.
        for _ in 0..10 {
            let port = free_port();
            let config = storage.path().join("config.yml");
            let text = format!(
                "version: 0.1\nlog: {{ accesslog: {{ disabled: true }}, level: error }}\n\
                 storage: {{ filesystem: {{ rootdirectory: {} }}, delete: {{ enabled: true }} }}\n\
                 http: {{ addr: '127.0.0.1:{port}', secret: always-the-same }}\n{more}",
                storage.path().display()
            );
            std::fs::write(&config, text).unwrap();
            let mut child = spawn(storage.path());
            let api = Api::Tcp(format!("127.0.0.1:{port}"));
            if answers(&mut child, &api) {
                return Some(Self { child, port, api, storage });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("docker-registry does not start");
    }

    /// Ends it at once, in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Registry::kill`], with what it has stored and where it was.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = spawn(self.storage.path());
        assert!(answers(&mut self.child, &self.api), "docker-registry does not start again");
    }

    /// `hoist registry serve` with these flags besides the ones that give it a place of its own.
    #[track_caller]
    pub fn serve_own(flags: &[&str]) -> Self {
        let storage = tempfile::Builder::new().prefix("hoist-registry-").tempdir().unwrap();
        for _ in 0..10 {
            let port = free_port();
            let mut child = spawn_own(storage.path(), port, flags);
            if listens(&mut child, port) {
                return Self { child, port, api: Api::Tcp(format!("127.0.0.1:{port}")), storage };
            }
            let _ = child.wait();
        }
        panic!("hoist registry serve does not start");
    }

    /// Where a registry of our own keeps everything; files of tests may lie there too.
    pub fn directory(&self) -> &Path {
        self.storage.path()
    }

    /// Kills a registry of our own in the middle of whatever it does, and starts it again on the same port.
    #[track_caller]
    pub fn kill_and_restart(&mut self, flags: &[&str]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn_own(self.storage.path(), self.port, flags);
        assert!(listens(&mut self.child, self.port), "hoist registry serve does not start again");
    }

    /// Asks it to end, and waits.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(wait_for_end(&mut self.child, patience()), "hoist registry serve does not end");
        self.child.wait().unwrap()
    }

    /// `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Pushes an image under these tags; returns the manifest's digest.
    #[track_caller]
    pub fn push(&self, repository: &str, tags: &[&str], image: &Image) -> String {
        for layer in &image.layers {
            self.push_blob(repository, &layer.blob);
        }
        self.push_blob(repository, &image.config_blob());
        let manifest = image.manifest();
        for tag in tags {
            self.push_manifest(repository, tag, MANIFEST_TYPE, &manifest);
        }
        digest(&manifest)
    }

    #[track_caller]
    pub fn push_blob(&self, repository: &str, blob: &[u8]) {
        let path = format!("/v2/{repository}/blobs/{}", digest(blob));
        if self.api.head(&path).status == 200 {
            return;
        }
        let started = self.api.post(&format!("/v2/{repository}/blobs/uploads/")).status(202);
        let location = started.header("Location").expect("Location").to_string();
        // The location is absolute; what counts is its path and query.
        let path = location.split_once("//").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_string()));
        let path = path.unwrap_or(location);
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}digest={}", digest(blob));
        self.api.request("PUT", &path, &[("Content-Type", "application/octet-stream")], blob).status(201);
    }

    #[track_caller]
    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.api.request("PUT", &path, &[("Content-Type", media_type)], manifest).status(201);
    }

    /// The media type of the layers that [`Registry::push`] names in manifests.
    pub fn layer_type() -> &'static str {
        LAYER_TYPE
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(storage: &Path) -> Child {
    let mut command = Command::new(settings::test_bed().join("docker-registry"));
    command.arg("serve").arg(storage.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("docker-registry")
}

fn spawn_own(root: &Path, port: u16, flags: &[&str]) -> Child {
    let binary = settings::binary().expect("no hoist binary: build it, or set HOIST_TEST_BINARY");
    let mut command = Command::new(binary);
    command.args(["registry", "serve", "--addr", &format!("127.0.0.1:{port}"), "--root"]).arg(root.join("data"));
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("hoist")
}

/// Waits until somebody takes connections on the port: false if it ended instead.
fn listens(child: &mut Child, port: u16) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(15) {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return false;
        }
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody listens on port {port}");
}

fn answers(child: &mut Child, api: &Api) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(15) {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return false;
        }
        if api.try_request("GET", "/v2/", &[], b"").is_ok_and(|reply| matches!(reply.status, 200 | 401)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A TCP port of the loopback interface that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
