//! Starting the engine when a command finds no socket: the same program, detached, and a wait for its socket.

use std::{
    fs, io,
    os::unix::{net::UnixStream, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::app::{Failure, Outcome};

/// Longest wait for the socket of an engine that is still running.
const TIMEOUT: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(5);
const LOG_DIR: &str = "/var/log/hoist";

/// Makes sure that somebody listens at `socket`, and connects to it.
pub(crate) fn ensure(socket: &Path, allowed: bool) -> Outcome<Option<UnixStream>> {
    let error = match UnixStream::connect(socket) {
        Ok(stream) => return Ok(Some(stream)),
        Err(error) => error,
    };
    let is_absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    if !is_absent || !rustix::process::geteuid().is_root() {
        // the command's own connection says what is wrong
        return Ok(None);
    }
    if !allowed {
        return Err(Failure::from(format!(
            "no engine listens at {}, and --no-autostart forbids to start one: run `hoist engine` first",
            socket.display()
        )));
    }
    start(socket).map(Some)
}

fn start(socket: &Path) -> Outcome<UnixStream> {
    let (log, path) = open_log(socket)?;
    let failed = |why: String| Failure::from(format!("cannot start the engine: {why}"));
    let clone = log.try_clone().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("hoist").args(["engine", "--autostarted"]).stdin(Stdio::null()).stdout(clone).stderr(log);
    command.current_dir("/");
    // a process group of its own keeps the terminal's signals away; the engine calls setsid itself when autostarted
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let begin = Instant::now();
    while begin.elapsed() < TIMEOUT {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(stream);
        }
        if let Ok(Some(status)) = child.try_wait() {
            // another command may have started one at the same moment, and ours gave way
            if let Ok(stream) = UnixStream::connect(socket) {
                return Ok(stream);
            }
            return Err(failed(format!("it ended with {status}{}", last_words(&path))));
        }
        std::thread::sleep(STEP);
    }
    Err(failed(format!("its socket {} did not appear; see {}", socket.display(), path.display())))
}

fn open_log(socket: &Path) -> Outcome<(fs::File, std::path::PathBuf)> {
    let run_dir = socket.parent().unwrap_or(Path::new("/run/hoist"));
    let mut last = None;
    for dir in [Path::new(LOG_DIR), run_dir] {
        let path = dir.join("engine.log");
        let opened =
            fs::create_dir_all(dir).and_then(|()| fs::OpenOptions::new().create(true).append(true).open(&path));
        match opened {
            Ok(file) => return Ok((file, path)),
            Err(error) => last = Some(format!("cannot open {}: {error}", path.display())),
        }
    }
    Err(Failure::from(last.unwrap_or_default()))
}

/// The end of the log, for the user who would have to look there anyway.
fn last_words(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2048)..]).into_owned();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    let lines: String = lines.into_iter().rev().map(|line| format!("\n  {line}")).collect();
    format!("; {} ends with:{lines}", path.display())
}
