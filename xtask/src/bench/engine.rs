//! The engine that is measured: one of its own, in a place of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::tempdir_in;
use crate::project::has_program;

/// An engine for the measurements, in a place of its own. Ends when dropped.
pub(super) struct Engine {
    pub(super) child: Child,
    pub(super) directory: PathBuf,
    root: PathBuf,
    pub(super) socket: PathBuf,
}

impl Engine {
    pub(super) fn start(binary: &Path) -> Result<Self> {
        let directory = tempdir_in(in_memory())?;
        let socket = directory.join("s.sock");
        let log = std::fs::File::create(directory.join("log"))?;
        let mut command = Command::new(binary);
        let root = std::env::var_os("HOIST_BENCH_ROOT").map_or_else(std::env::temp_dir, PathBuf::from);
        let root = root.join(format!("hoist-bench-{}", std::process::id()));
        command.arg("engine").arg("--root").arg(&root).arg("--run-dir").arg(directory.join("r"));
        command.arg("-H").arg(format!("unix://{}", socket.display())).arg("--pidfile").arg(directory.join("pid"));
        command.args(["--bridge", "htbench", "--bip", "10.199.0.1/20"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("{}", binary.display()))?;
        let mut engine = Self { child, directory, root, socket };
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

/// Where run directories are on users' machines: in memory, as `/run` is.
fn in_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        // An engine leaves both for the next one.
        for words in ["ip link delete htbench", "nft delete table inet hoist-htbench"] {
            let mut words = words.split(' ');
            if let Some(program) = words.next().filter(|program| has_program(program)) {
                let _ = Command::new(program).args(words).output();
            }
        }
        let _ = std::fs::remove_dir_all(&self.directory);
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
