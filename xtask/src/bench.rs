//! `cargo xtask bench`: sizes, start times, and how many times faster than a peer the same command is.
//!
//! Ratios are of medians in one run, the two sides taking turns, so that what else the machine does hits both. Each command
//! is measured with a gap before it, as people and schedulers start containers, and in a loop, which hides what the kernel
//! puts off.

mod engine;
mod images;
mod measure;
mod memory;
mod side;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::engine::Engine;
use self::measure::{Figure, run_quietly, show};
use self::side::{Kind, Side};
use crate::project::{output, target};
use crate::{e2e, test_bed};

const HELP: &str = "\
usage: cargo xtask bench [NAME…]       names: size, start, run, exec, ps, parallel, memory, images; default: all

Variables:
  HOIST_BENCH_BINARY   the executable (default: the release build, made first)
  HOIST_BENCH_ROUNDS   how often each command is measured (default 15)
  HOIST_BENCH_PEER     a docker host of a peer engine, as unix:///run/docker.sock; its client is the test bed's docker
  HOIST_BENCH_ROOT     where the measured engine has its root (default: the directory for temporary files); what the peer
                       uses should be alike, and like a user's: ext4 without a journal passes over every inode that was
                       deleted in the last minutes when it makes one, which slows the faster engine down
  HOIST_BENCH_PODMAN   how podman is started, if it is to be measured too, such as `podman --runtime runc`
";

const GAP: Duration = Duration::from_millis(150);
const LISTED: usize = 200;
const PARALLEL_ROUNDS: usize = 5;

struct Bench {
    binary: PathBuf,
    rounds: usize,
    ours: Side,
    /// The real docker client on our engine, and on the peer.
    docker_on_ours: Option<Side>,
    peer: Option<Side>,
    podman: Option<Side>,
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
    if wanted("images") {
        images::measure(&bench, &engine)?;
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
        let ours = Side::of_host("hoist", Kind::Hoist, &binary, &host);
        let docker_on_ours =
            docker.as_deref().map(|client| Side::of_host("docker client on hoist", Kind::Docker, client, &host));
        let peer = match (std::env::var("HOIST_BENCH_PEER"), docker) {
            (Ok(host), Some(client)) => Some(Side::of_host("peer", Kind::Docker, &client, &host)),
            _ => {
                println!("no peer: set HOIST_BENCH_PEER for ratios");
                None
            }
        };
        let podman = std::env::var("HOIST_BENCH_PODMAN").ok().map(|words| Side::podman(&words)).transpose()?;
        Ok(Self { binary, rounds, ours, docker_on_ours, peer, podman })
    }

    fn sides(&self) -> Vec<&Side> {
        std::iter::once(&self.ours).chain(&self.docker_on_ours).chain(&self.peer).chain(&self.podman).collect()
    }

    /// One side for each engine.
    fn engines(&self) -> Vec<&Side> {
        std::iter::once(&self.ours).chain(&self.peer).chain(&self.podman).collect()
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
        for side in self.engines() {
            let has = side.command(&["image", "inspect", "busybox"]).output()?.status.success();
            if !has {
                output(side.command(&["import", "-", "busybox:latest"]).stdin(std::fs::File::open(&tar)?))?;
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
        let arguments = ["run", "-d", "--name", &name, "busybox", "sleep", "100000"];
        let started = self.engines().iter().try_for_each(|side| output(&mut side.command(&arguments)).map(drop));
        let result = started.and_then(|()| measure(self, &name));
        // On every side, whatever happened on another: a container that runs on keeps its engine's bridge and table.
        let removed = self.engines().into_iter().map(|side| output(&mut side.command(&["rm", "-f", &name])).map(drop));
        let removed: Vec<Result<()>> = removed.collect();
        result?;
        removed.into_iter().collect()
    }

    fn ps(&self) -> Result<()> {
        let name = |number: usize| format!("hoist-bench-ps-{}-{number}", std::process::id());
        let sides = self.engines();
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

    /// Starts per second when eight clients run containers one after the other; the sides take turns.
    fn parallel(&self) -> Result<()> {
        let sides = self.engines();
        let mut rates = vec![Vec::new(); sides.len()];
        for _ in 0..PARALLEL_ROUNDS {
            for (side, rates) in sides.iter().zip(&mut rates) {
                rates.push(starts_per_second(side)?);
            }
        }
        for rates in &mut rates {
            rates.sort_unstable_by(f64::total_cmp);
        }
        let median = |number: usize| rates[number][PARALLEL_ROUNDS / 2];
        for (number, side) in sides.iter().enumerate() {
            let all: Vec<String> = rates[number].iter().map(|rate| format!("{rate:.1}")).collect();
            println!(
                "starts, 8 in parallel     {:.1} per second (of {}; {})",
                median(number),
                all.join(", "),
                side.name
            );
        }
        for (number, side) in sides.iter().enumerate().skip(1) {
            println!("starts, 8 in parallel     {:.1} times as many as {}", median(0) / median(number), side.name);
        }
        Ok(())
    }
}

fn starts_per_second(side: &Side) -> Result<f64> {
    let each = if side.kind == Kind::Hoist { 50 } else { 4 };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let client = || {
            (0..each).try_for_each(|_| run_quietly(&mut side.command(&["run", "--rm", "busybox", "true"])).map(drop))
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
    })?;
    Ok(f64::from(8 * each) / start.elapsed().as_secs_f64())
}

fn tempdir() -> Result<PathBuf> {
    tempdir_in(std::env::temp_dir())
}

fn tempdir_in(place: PathBuf) -> Result<PathBuf> {
    let output = output(Command::new("mktemp").arg("-d").arg(place.join("hoist-bench-XXXXX")))?;
    Ok(PathBuf::from(output.trim()))
}
