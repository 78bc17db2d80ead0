//! Hooks of the bundle: programs that are told of the container's state on standard input. They get the environment that
//! the bundle gives them and nothing else: neither the container's nor ours.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;

use super::fault::{Fault, Result};

/// Most of a failed hook's words that are repeated.
const MAX_OUTPUT_BYTES: usize = 4096;

/// How often a running hook is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Runs hooks in order, stopping at the first that fails.
pub(super) fn run(kind: &str, hooks: Option<&Vec<Hook>>, state: &serde_json::Value) -> Result<()> {
    for (at, hook) in hooks.into_iter().flatten().enumerate() {
        run_one(hook, state).map_err(|why| Fault::new(format!("error running {kind} hook #{at}: {why}")))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &serde_json::Value) -> std::result::Result<(), String> {
    let path = hook.path();
    let arguments = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    for entry in hook.env().iter().flatten() {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(key, value);
    }
    let mut child =
        command.spawn().map_err(|error| format!("{}: {}", path.display(), hoist_sys::errno_text(&error)))?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(state.to_string().as_bytes()) {
            // A hook need not read its input.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.to_string()),
            _ => {}
        }
    }
    let deadline =
        hook.timeout().map(|seconds| (Instant::now() + Duration::from_secs(seconds.unsigned_abs()), seconds));
    let mut output = Output::of(&mut child);
    let status = loop {
        // Read beside waiting, or a talkative hook would block. One that leaves a child with its output behind is not
        // waited for. No threads: hooks also run in a container's init.
        output.read();
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if let Some((_, seconds)) = deadline.filter(|(deadline, _)| Instant::now() >= *deadline) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("hook ran past specified timeout of {seconds}.0s"));
        }
        std::thread::sleep(POLL);
    };
    if status.success() {
        return Ok(());
    }
    output.read();
    Err(format!("{status}, stdout: {}, stderr: {}", output.words(0), output.words(1)))
}

/// What a hook says on standard output and error: the first part is kept, the rest read and dropped.
struct Output {
    pipes: [Option<std::fs::File>; 2],
    texts: [Vec<u8>; 2],
}

impl Output {
    fn of(child: &mut Child) -> Output {
        let own = |fd: OwnedFd| rustix::io::ioctl_fionbio(&fd, true).ok().map(|()| std::fs::File::from(fd));
        let stdout = child.stdout.take().and_then(|pipe| own(pipe.into()));
        let stderr = child.stderr.take().and_then(|pipe| own(pipe.into()));
        Output { pipes: [stdout, stderr], texts: [Vec::new(), Vec::new()] }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for (pipe, text) in self.pipes.iter_mut().zip(&mut self.texts) {
            while let Some(length) = pipe.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok()) {
                if length == 0 {
                    *pipe = None;
                }
                let room = MAX_OUTPUT_BYTES.saturating_sub(text.len());
                text.extend_from_slice(&buffer[..length.min(room)]);
            }
        }
    }

    fn words(&self, which: usize) -> String {
        String::from_utf8_lossy(&self.texts[which]).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: serde_json::Value) -> Vec<Hook> {
        vec![serde_json::from_value(json).unwrap()]
    }

    #[test]
    fn a_hook_gets_the_state_and_a_clean_environment() {
        let file = std::env::temp_dir().join(format!("hoist-hook-{}", std::process::id()));
        let script = format!("cat > {0}; tr '\\0' '\\n' < /proc/self/environ >> {0}", file.display());
        let hooks = hook(serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=1"]}));
        run("prestart", Some(&hooks), &serde_json::json!({"id": "x"})).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(text.starts_with(r#"{"id":"x"}"#), "{text}");
        assert!(text.contains("A=1") && !text.contains("PATH=") && !text.contains("CARGO"), "{text}");
    }

    #[test]
    fn a_failing_missing_or_slow_hook_is_told_with_its_words() {
        let error = |json| run("createRuntime", Some(&hook(json)), &serde_json::json!({})).unwrap_err().message;
        let failed = error(serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"]}));
        assert_eq!(failed, "error running createRuntime hook #0: exit status: 3, stdout: , stderr: no");
        assert!(error(serde_json::json!({"path": "/no/such"})).contains("/no/such: no such file or directory"));
        let slow = error(serde_json::json!({"path": "/bin/sleep", "args": ["sleep", "9"], "timeout": 1}));
        assert!(slow.contains("timeout of 1.0s"), "{slow}");
    }
}
