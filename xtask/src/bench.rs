//! `cargo xtask bench`: sizes, start times, and how many times faster than a peer the same command is.
//!
//! Ratios are of medians in one run, the two sides taking turns, so that what else the machine does hits both. Each command
//! is measured with a gap before it, as people and schedulers start containers, and in a loop, which hides what the kernel
//! puts off.

mod measure;
mod memory;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::measure::{Figure, run_quietly, show};
use crate::project::{has_program, output, target};
use crate::{e2e, test_bed};

const HELP: &str = "\
usage: cargo xtask bench [NAME…]       names: size, start, run, exec, ps, parallel, memory; default: all

Variables:
  HOIST_BENCH_BINARY   the executable (default: the release build, made first)
  HOIST_BENCH_ROUNDS   how often each command is measured (default 15)
  HOIST_BENCH_PEER     a docker host of a peer engine, as unix:///run/docker.sock; its client is the test bed's docker
";

const GAP: Duration = Duration::from_millis(150);
const LISTED: usize = 200;

/// One side of a comparison: a client and the engine it talks to.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    client: PathBuf,
    host: String,
}

impl Side {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.args(arguments).env("DOCKER_HOST", &self.host).env("HOIST_HOST", &self.host).stdin(Stdio::null());
        command.env("DOCKER_CONFIG", "/nonexistent");
        command
    }
}

struct Bench {
    binary: PathBuf,
    rounds: usize,
    ours: Side,
    /// The real docker client on our engine, and on the peer.
    docker_on_ours: Option<Side>,
    peer: Option<Side>,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{HELP}");
        return Ok(());
    }
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let binary = match std::env::var_os("HOIST_BENCH_BINARY") {
        Some(binary) => PathBuf::from(binary),
        None => e2e::build_release()?,
    };
    // As it is installed: by copying. What the linker wrote lies in many small pieces in the page cache, and each page of
    // the program that is touched for the first time costs more for that, 0.3 ms of a command.
    let installed = target().join("bench-hoist");
    std::fs::copy(&binary, &installed).with_context(|| format!("{}", binary.display()))?;
    let binary = installed;
    let engine = Engine::start(&binary)?;
    let bench = Bench::new(binary, &engine)?;
    if wanted("size") {
        bench.size()?;
    }
    if wanted("start") {
        bench.start()?;
    }
    if wanted("memory") {
        memory::idle(&engine.child)?;
    }
    bench.provide_busybox()?;
    if wanted("run") {
        bench.compare("run --rm, bridge", &["run", "--rm", "busybox", "true"])?;
        bench.compare("run --rm, no network", &["run", "--rm", "--network", "none", "busybox", "true"])?;
        bench.floor()?;
    }
    if wanted("exec") {
        bench.with_container(|bench, name| bench.compare("exec", &["exec", name, "true"]))?;
    }
    if wanted("ps") {
        bench.ps()?;
    }
    if wanted("parallel") {
        bench.parallel()?;
    }
    if wanted("memory") {
        bench.with_container(|_, _| memory::with_containers(&engine.child, &engine.directory))?;
    }
    Ok(())
}

impl Bench {
    fn new(binary: PathBuf, engine: &Engine) -> Result<Self> {
        let rounds = std::env::var("HOIST_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(15);
        let host = format!("unix://{}", engine.socket.display());
        let docker = test_bed::make()?.join("docker");
        let docker = docker.is_file().then_some(docker);
        let ours = Side { name: "hoist", client: binary.clone(), host: host.clone() };
        let docker_on_ours = docker.clone().map(|client| Side { name: "docker client on hoist", client, host });
        let peer = match (std::env::var("HOIST_BENCH_PEER"), docker) {
            (Ok(host), Some(client)) => Some(Side { name: "peer", client, host }),
            _ => {
                println!("no peer: set HOIST_BENCH_PEER for ratios");
                None
            }
        };
        Ok(Self { binary, rounds, ours, docker_on_ours, peer })
    }

    fn sides(&self) -> Vec<&Side> {
        std::iter::once(&self.ours).chain(&self.docker_on_ours).chain(&self.peer).collect()
    }

    fn size(&self) -> Result<()> {
        let bytes = std::fs::metadata(&self.binary)?.len();
        println!("size                      {:.1} MB in one file", bytes as f64 / 1e6);
        Ok(())
    }

    fn start(&self) -> Result<()> {
        let figure = Figure::of(self.rounds * 4, || run_quietly(&mut self.ours.command(&["--version"])))?;
        println!("hoist --version           {figure}");
        if let Some(peer) = &self.peer {
            let figure = Figure::of(self.rounds, || run_quietly(&mut peer.command(&["--version"])))?;
            println!("docker --version          {figure}");
        }
        Ok(())
    }

    /// Both sides get the same image: the machine's static busybox, imported.
    fn provide_busybox(&self) -> Result<()> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
        let busybox = busybox.context("busybox-static is not installed")?;
        let root = tempdir()?;
        std::fs::create_dir_all(root.join("bin"))?;
        std::fs::copy(busybox, root.join("bin/busybox"))?;
        for applet in ["sh", "true", "sleep"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        let tar = root.join("root.tar");
        output(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("bin"))?;
        let tar = tar.display().to_string();
        for side in [Some(&self.ours), self.peer.as_ref()].into_iter().flatten() {
            let has = side.command(&["image", "inspect", "busybox"]).output()?.status.success();
            if !has {
                output(&mut side.command(&["import", &tar, "busybox:latest"]))?;
            }
        }
        std::fs::remove_dir_all(root)?;
        Ok(())
    }

    /// The same command on every side, with gaps and in a loop.
    fn compare(&self, what: &str, arguments: &[&str]) -> Result<()> {
        let sides = self.sides();
        let commands: Vec<_> = sides.iter().map(|side| move || side.command(arguments)).collect();
        for (mode, gap) in [("150 ms gaps", Some(GAP)), ("loop", None)] {
            let figures = Figure::interleaved(self.rounds, gap, &commands)?;
            show(what, mode, &sides, &figures);
        }
        Ok(())
    }

    /// What no engine can be faster than: new namespaces and one program in them.
    fn floor(&self) -> Result<()> {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["-mpnuif", "--mount-proc", "true"]).stdin(Stdio::null());
            command
        };
        let run = || self.ours.command(&["run", "--rm", "busybox", "true"]);
        let commands: [&dyn Fn() -> Command; 2] = [&run, &unshare];
        for (mode, gap) in [("150 ms gaps", Some(GAP)), ("loop", None)] {
            let figures = Figure::interleaved(self.rounds, gap, &commands)?;
            let ratio = figures[0].median() / figures[1].median();
            println!("{:<25} {mode:<12} unshare -mpnuif {}, run takes {ratio:.1} times that", "floor", figures[1]);
        }
        Ok(())
    }

    fn with_container(&self, measure: impl FnOnce(&Self, &str) -> Result<()>) -> Result<()> {
        let name = format!("hoist-bench-{}", std::process::id());
        for side in [Some(&self.ours), self.peer.as_ref()].into_iter().flatten() {
            output(&mut side.command(&["run", "-d", "--name", &name, "busybox", "sleep", "100000"]))?;
        }
        let result = measure(self, &name);
        for side in [Some(&self.ours), self.peer.as_ref()].into_iter().flatten() {
            output(&mut side.command(&["rm", "-f", &name]))?;
        }
        result
    }

    fn ps(&self) -> Result<()> {
        let name = |number: usize| format!("hoist-bench-ps-{}-{number}", std::process::id());
        let sides: Vec<&Side> = [Some(&self.ours), self.peer.as_ref()].into_iter().flatten().collect();
        for side in &sides {
            for number in 0..LISTED {
                output(&mut side.command(&["create", "--name", &name(number), "busybox", "true"]))?;
            }
        }
        let result = self.compare(&format!("ps -a, {LISTED} containers"), &["ps", "-a"]);
        for side in &sides {
            let names: Vec<String> = (0..LISTED).map(name).collect();
            let arguments: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
            output(&mut side.command(&arguments))?;
        }
        result
    }

    /// Starts per second when eight clients run containers one after the other.
    fn parallel(&self) -> Result<()> {
        let mut rates = Vec::new();
        for side in [Some(&self.ours), self.peer.as_ref()].into_iter().flatten() {
            let each = if side.name == "peer" { 3 } else { 25 };
            let start = Instant::now();
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(move || {
                            (0..each).try_for_each(|_| {
                                run_quietly(&mut side.command(&["run", "--rm", "busybox", "true"])).map(drop)
                            })
                        })
                    })
                    .collect();
                workers.into_iter().try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a worker panicked"),
                })
            })?;
            let rate = f64::from(8 * each) / start.elapsed().as_secs_f64();
            println!("starts, 8 in parallel     {rate:.1} per second ({})", side.name);
            rates.push(rate);
        }
        if let [ours, peer] = rates[..] {
            println!("starts, 8 in parallel     {:.1} times the peer's", ours / peer);
        }
        Ok(())
    }
}

fn tempdir() -> Result<PathBuf> {
    let output = output(Command::new("mktemp").args(["-d", "--tmpdir", "hoist-bench-XXXXX"]))?;
    Ok(PathBuf::from(output.trim()))
}

/// An engine for the measurements, in a place of its own. Ends when dropped.
struct Engine {
    child: Child,
    directory: PathBuf,
    socket: PathBuf,
}

impl Engine {
    fn start(binary: &Path) -> Result<Self> {
        let directory = tempdir()?;
        let socket = directory.join("s.sock");
        let log = std::fs::File::create(directory.join("log"))?;
        let mut command = Command::new(binary);
        command.arg("engine").arg("--root").arg(directory.join("d")).arg("--run-dir").arg(directory.join("r"));
        command.arg("-H").arg(format!("unix://{}", socket.display())).arg("--pidfile").arg(directory.join("pid"));
        command.args(["--bridge", "htbench", "--bip", "10.199.0.1/20"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("{}", binary.display()))?;
        let mut engine = Self { child, directory, socket };
        while std::os::unix::net::UnixStream::connect(&engine.socket).is_err() {
            if start.elapsed() > Duration::from_secs(20) || !matches!(engine.child.try_wait(), Ok(None)) {
                let log = std::fs::read_to_string(engine.directory.join("log")).unwrap_or_default();
                bail!("the engine does not come up:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("engine start              {:.1} ms until its socket answers", start.elapsed().as_secs_f64() * 1e3);
        Ok(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        if has_program("ip") {
            let _ = Command::new("ip").args(["link", "delete", "htbench"]).output();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
