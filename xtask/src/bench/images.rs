//! Moving an image of twelve layers and 600 MB: load, save, push, pull, on every side in turn.
//!
//! The image is cut from this machine's `/usr`, so that its files compress as those of real images do. It lies in a real
//! registry on a loopback port; what is pushed goes to one that is empty. Before each command everything written so far is
//! flushed, so that no side pays for another's files.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::engine::Engine;
use super::measure::{Figure, run_quietly, show};
use super::side::{Kind, Side};
use super::{Bench, memory, tempdir};
use crate::project::output;
use crate::test_bed;

const LAYERS: usize = 12;
const LAYER_BYTES: u64 = 52 << 20;
const ROUNDS: usize = 3;
const IMAGE: &str = "hoist-bench-image:1";

pub(super) fn measure(bench: &Bench, engine: &Engine) -> Result<()> {
    let directory = tempdir()?;
    let result = measure_in(bench, engine, &directory);
    fs::remove_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
    result
}

fn measure_in(bench: &Bench, engine: &Engine, directory: &Path) -> Result<()> {
    let archive = directory.join("image.tar");
    write_archive(directory, &archive)?;
    let sides = bench.engines();
    let load = |side: &Side| {
        forget(side, &[IMAGE])?;
        run_quietly(side.command(&["load", "-q"]).stdin(File::open(&archive)?))
    };
    compare("load, 12 layers", &sides, load)?;
    compare("save", &sides, |side| run_quietly(&mut side.command(&["save", IMAGE])))?;
    let Some(program) = Some(test_bed::make()?.join("docker-registry")).filter(|program| program.is_file()) else {
        println!("skipped: push and pull: the test bed has no docker-registry");
        return Ok(());
    };
    compare("push to an empty registry", &sides, |side| push_to_new(side, &program, directory).map(|(took, _)| took))?;
    // As Docker packs it, where Docker is at hand.
    let (_, registry) = push_to_new(bench.peer.as_ref().unwrap_or(&bench.ours), &program, directory)?;
    let name = registry.name();
    sides.iter().try_for_each(|side| forget(side, &[IMAGE]))?;
    memory::forget_peak(&engine.child)?;
    let pull = |side: &Side| {
        forget(side, &[&name])?;
        let plain: &[&str] = if side.kind == Kind::Podman { &["--tls-verify=false"] } else { &[] };
        run_quietly(&mut side.command(&[&["pull", "-q"], plain, &[&name]].concat()))
    };
    compare("pull", &sides, pull)?;
    memory::peak(&engine.child, "engine, peak of pulls")?;
    sides.iter().try_for_each(|side| forget(side, &[&name]))
}

fn compare(what: &str, sides: &[&Side], measure: impl Fn(&Side) -> Result<Duration>) -> Result<()> {
    let mut times = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (side, times) in sides.iter().zip(&mut times) {
            times.push(measure(side).with_context(|| format!("{what}, {}", side.name))?);
        }
    }
    show(what, "in turn", sides, &times.into_iter().map(Figure::sorted).collect::<Vec<_>>());
    Ok(())
}

/// Takes an image away, its files too, and waits until the disk is at rest.
fn forget(side: &Side, names: &[&str]) -> Result<()> {
    for name in names {
        // It may not be there.
        side.command(&["rmi", "-f", name]).output()?;
    }
    std::thread::sleep(Duration::from_secs(1));
    output(&mut Command::new("sync")).map(drop)
}

fn push_to_new(side: &Side, program: &Path, directory: &Path) -> Result<(Duration, Registry)> {
    let registry = Registry::start(program, directory)?;
    let name = registry.name();
    output(&mut side.command(&["tag", IMAGE, &name]))?;
    output(&mut Command::new("sync"))?;
    let plain: &[&str] = if side.kind == Kind::Podman { &["--tls-verify=false"] } else { &[] };
    let took = run_quietly(&mut side.command(&[&["push", "-q"], plain, &[&name]].concat()))?;
    output(&mut side.command(&["rmi", &name]))?;
    Ok((took, registry))
}

/// A registry with nothing in it. Ends when dropped.
struct Registry {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Registry {
    fn start(program: &Path, below: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = below.join(format!("registry-{port}"));
        fs::create_dir(&directory)?;
        let config = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{ accesslog: {{ disabled: true }}, level: error }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n",
            directory.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("{}", program.display()))?;
        let registry = Self { child, port, directory };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(20) {
                bail!("docker-registry does not come up");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(registry)
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}/bench/image:1", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It has nothing worth keeping.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The image as an archive of `docker save`'s older form, which every engine loads.
fn write_archive(directory: &Path, archive: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(Path::new("/usr"), &mut files)?;
    files.sort();
    let mut files = files.into_iter();
    let (mut layers, mut diff_ids, mut total) = (Vec::new(), Vec::new(), 0);
    for number in 0..LAYERS {
        let (mut list, mut bytes) = (Vec::new(), 0);
        while bytes < LAYER_BYTES
            && let Some((path, size)) = files.next()
        {
            list.extend_from_slice(path.as_os_str().as_encoded_bytes());
            list.push(0);
            bytes += size;
        }
        total += bytes;
        let name = format!("{number}.tar");
        let (tar, names) = (directory.join(&name), directory.join("names"));
        File::create(&names)?.write_all(&list)?;
        let mut command = Command::new("tar");
        command.args(["--no-recursion", "--null", "-C", "/", "-cf"]).arg(&tar).arg("-T").arg(&names);
        output(command.stderr(Stdio::piped()))?;
        let sum = output(Command::new("sha256sum").arg(&tar))?;
        diff_ids.push(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()));
        layers.push(name);
    }
    let config = json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"), "os": "linux",
        "config": {"Cmd": ["true"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| json!({"created_by": "bench"})).collect::<Vec<_>>(),
    });
    fs::write(directory.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": layers}]);
    fs::write(directory.join("manifest.json"), manifest.to_string())?;
    let mut command = Command::new("tar");
    command.arg("-C").arg(directory).arg("-cf").arg(archive).args(["manifest.json", "config.json"]).args(&layers);
    output(&mut command)?;
    layers.iter().try_for_each(|layer| fs::remove_file(directory.join(layer)))?;
    println!("image                     {LAYERS} layers, {} MB of /usr", total >> 20);
    Ok(())
}

/// Regular files below a directory with their sizes; what cannot be read is left out.
fn collect(directory: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            let bytes = entry.metadata()?.len();
            // One that fills a layer alone would make the image as large as it likes.
            if bytes < LAYER_BYTES / 4 {
                files.push((entry.path(), bytes));
            }
        }
    }
    Ok(())
}
