//! What a test gets: an engine with the image `busybox` in it, a client to drive it, names and directories of its own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::api::Api;
use crate::command::{self, Background, Ran};
use crate::engine::{Engine, remove_containers};
use crate::image::Image;
use crate::terminal::Terminal;
use crate::{settings, skipped, words};

/// The client that a run of a test uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cli {
    Docker,
    Hoist,
}

/// Runs a test with the real docker client and once more with ours; both are run even when the first fails.
#[track_caller]
pub fn both(test: impl Fn(&mut Bed)) {
    both_with(&[Cli::Docker, Cli::Hoist], &test);
}

/// Runs a test of what only our client has.
#[track_caller]
pub fn hoist(test: impl Fn(&mut Bed)) {
    both_with(&[Cli::Hoist], &test);
}

/// Runs a test that speaks to the API itself.
pub fn engine(test: impl FnOnce(&mut Bed)) {
    test(&mut Bed::new(Cli::Docker, &[]));
}

#[track_caller]
fn both_with(clients: &[Cli], test: &impl Fn(&mut Bed)) {
    let mut failed = Vec::new();
    for &cli in clients {
        let name = format!("{cli:?}").to_lowercase();
        if settings::only_cli().is_some_and(|only| only != name) {
            continue;
        }
        match program(cli) {
            Some(path) if path.is_file() => {}
            _ => {
                skipped(&format!("{name}-client"), "the client is not there");
                continue;
            }
        }
        println!("=== with {name}");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut Bed::new(cli, &[])))) {
            println!("=== FAILED with {name}");
            failed.push((name, panic));
        }
    }
    if let Some((_, panic)) = failed.pop() {
        resume_unwind(panic);
    }
}

fn program(cli: Cli) -> Option<PathBuf> {
    match cli {
        Cli::Docker => Some(settings::test_bed().join("docker")),
        Cli::Hoist => settings::binary(),
    }
}

/// A directory of the host that containers can be given: its path for the engine, and for the test. They differ where a
/// peer lives in a root of its own.
pub struct HostDir {
    pub path: String,
    ours: TempDir,
}

impl HostDir {
    pub fn ours(&self) -> &Path {
        self.ours.path()
    }

    #[track_caller]
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.ours().join(name), text).unwrap();
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.ours().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// One run of a test.
pub struct Bed {
    pub engine: Engine,
    pub cli: Cli,
    home: TempDir,
    label: String,
    environment: BTreeMap<String, String>,
}

impl Bed {
    /// An engine with these options (a peer has the options that it has) and `busybox` in it.
    #[track_caller]
    pub fn new(cli: Cli, options: &[String]) -> Self {
        let bed = Self::bare(cli, Engine::start(options));
        if !bed.has_image("busybox:latest") {
            // Made once in a process: most tests start two engines.
            static BUSYBOX: LazyLock<Vec<u8>> = LazyLock::new(|| Image::busybox().docker_archive(&["busybox:latest"]));
            bed.load_archive("busybox:latest", &BUSYBOX);
        }
        bed
    }

    /// A bed on an engine that is there already, without images.
    pub fn bare(cli: Cli, engine: Engine) -> Self {
        let home = tempfile::Builder::new().prefix("hoist-home-").tempdir().unwrap();
        let label = format!("hoist.test={:08x}", rand::random::<u32>());
        Self { engine, cli, home, label, environment: BTreeMap::new() }
    }

    pub fn api(&self) -> Api {
        self.engine.api()
    }

    /// Loads an image that the engine does not have under this name.
    #[track_caller]
    pub fn load_once(&self, name: &str, image: &Image) {
        if !self.has_image(name) {
            self.load(name, image);
        }
    }

    fn has_image(&self, name: &str) -> bool {
        self.api().get(&format!("/images/{name}/json")).status == 200
    }

    #[track_caller]
    pub fn load(&self, name: &str, image: &Image) {
        self.load_archive(name, &image.docker_archive(&[name]));
    }

    #[track_caller]
    fn load_archive(&self, name: &str, archive: &[u8]) {
        let headers = [("Content-Type", "application/x-tar")];
        let reply = self.api().request("POST", "/images/load?quiet=1", &headers, archive).status(200);
        assert!(!reply.text().contains("errorDetail"), "loading {name}: {}", reply.text());
    }

    /// A name that nothing else on this engine has.
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}-{:08x}", rand::random::<u32>())
    }

    /// The label that every container of this run carries.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Sets a variable for the clients that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_string(), value.to_string());
    }

    /// The directory in which clients run, their home and the place of their configuration.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A directory of the host for bind mounts.
    #[track_caller]
    pub fn host_dir(&self) -> HostDir {
        let root = if self.engine.is_own() { PathBuf::from("/") } else { settings::peer_root() };
        let ours = tempfile::Builder::new().prefix("hoist-host-").tempdir_in(root.join("var/tmp")).unwrap();
        let path = format!("/{}", ours.path().strip_prefix(&root).unwrap().display());
        // tempfile makes it private, and containers may run as anybody.
        std::fs::set_permissions(ours.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        HostDir { path, ours }
    }

    /// Runs the client with the words of this line; ends when it ends.
    #[track_caller]
    pub fn cli(&self, line: &str) -> Ran {
        self.cli_with(line, b"")
    }

    /// The same with standard input.
    #[track_caller]
    pub fn cli_with(&self, line: &str, input: &[u8]) -> Ran {
        command::run(self.command(&words::split(line)), input)
    }

    /// The same with words instead of a line.
    #[track_caller]
    pub fn args(&self, arguments: &[&str]) -> Ran {
        let arguments: Vec<String> = arguments.iter().map(|word| word.to_string()).collect();
        command::run(self.command(&arguments), b"")
    }

    /// Runs another program to its end.
    #[track_caller]
    pub fn run(&self, command: Command) -> Ran {
        command::run(command, b"")
    }

    /// Starts the client beside the test.
    #[track_caller]
    pub fn spawn(&self, line: &str) -> Background {
        Background::start(self.command(&words::split(line)))
    }

    /// Starts the client on a terminal of 24 rows and 80 columns.
    #[track_caller]
    pub fn terminal(&self, line: &str) -> Terminal {
        Terminal::start(&self.command(&words::split(line)), 24, 80)
    }

    /// Runs a script of the shell in which `docker` is the client of this run.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Ran {
        let bin = self.home().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let link = bin.join("docker");
        if !link.exists() {
            let program = program(self.cli).unwrap();
            std::os::unix::fs::symlink(program, &link).unwrap();
        }
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script]);
        self.prepare(&mut bash);
        bash.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()));
        command::run(bash, b"")
    }

    /// What `inspect` says about a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.api().get(&format!("/containers/{container}/json")).status(200).json()
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(program(self.cli).expect("the client"));
        let mut arguments = arguments.iter();
        // A peer is shared: what this run makes there is marked, and removed by that mark.
        for word in arguments.by_ref() {
            command.arg(word);
            if word == "run" || word == "create" {
                command.arg("--label").arg(&self.label);
                break;
            }
            if word != "container" && !word.starts_with('-') {
                break;
            }
        }
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        let host = format!("unix://{}", self.engine.socket.display());
        command.env_clear().current_dir(self.home());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("DOCKER_HOST", &host).env("HOIST_HOST", &host);
        command.env("HOME", self.home()).env("DOCKER_CONFIG", self.home()).env("LANG", "C.UTF-8");
        command.envs(&self.environment);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        remove_containers(&self.engine.api(), &self.label);
    }
}
