//! Programs run to their end, or beside the test, with time limits; what they printed, with assertions on it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::patience;

/// A program that ended. Assertions return it, so that they can be chained.
#[derive(Debug, Clone)]
pub struct Ran {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails_with(0)
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "the exit code of {self}");
        self
    }

    /// It failed, however.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert_ne!(self.code, 0, "the exit code of {self}");
        self
    }

    /// Its output is exactly this, apart from blank space at the ends.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert_eq!(self.stdout.trim(), text.trim(), "the output of {self}");
        self
    }

    /// Its output contains this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in the output of {self}");
        self
    }

    /// Its output does not contain this.
    #[track_caller]
    pub fn says_not(self, text: &str) -> Self {
        assert!(!self.stdout.contains(text), "there is {text:?} in the output of {self}");
        self
    }

    /// Its error output contains this.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in the error output of {self}");
        self
    }

    /// Its output matches this regular expression (multi-line mode).
    #[track_caller]
    pub fn matches(self, pattern: &str) -> Self {
        let regex = regex::RegexBuilder::new(pattern).multi_line(true).build().unwrap();
        assert!(regex.is_match(&self.stdout), "the output does not match {pattern:?}: {self}");
        self
    }

    /// Its output without the blank space at the ends.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// The line of a table that contains this word.
    #[track_caller]
    pub fn row(&self, word: &str) -> &str {
        let row = self.stdout.lines().find(|line| line.contains(word));
        row.unwrap_or_else(|| panic!("no row with {word:?} in {self}"))
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}) in {self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(formatter, "`{command}`\nexit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// Runs a program to its end with this input.
#[track_caller]
pub(crate) fn run(command: Command, input: &[u8]) -> Ran {
    let mut background = Background::start(command);
    background.write(input);
    background.finish()
}

/// A program that runs beside the test. Killed when dropped.
pub struct Background {
    child: Child,
    shown: String,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
}

impl Background {
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{shown}`: {error}"));
        let stdin = child.stdin.take();
        let stdout = Collected::read(child.stdout.take().unwrap());
        let stderr = Collected::read(child.stderr.take().unwrap());
        Self { child, shown, stdin, stdout, stderr }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Writes to its standard input. A reader that went away is no failure of the test.
    pub fn write(&mut self, input: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(input).and_then(|()| stdin.flush());
        }
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// What it has printed until now.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its output contains this.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> &mut Self {
        let start = Instant::now();
        while !self.stdout().contains(text) {
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
            let waited = start.elapsed();
            if (has_ended && waited > Duration::from_millis(500)) || waited > patience() / 2 {
                let (out, err) = (self.stdout(), self.stderr());
                panic!("no {text:?} from `{}` after {waited:?}:\n{out}\n--- stderr\n{err}", self.shown);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Closes its input, waits for its end and returns all that it printed.
    #[track_caller]
    pub fn finish(mut self) -> Ran {
        self.stdin = None;
        self.finish_with_open_stdin()
    }

    /// Waits for its end while its input stays open.
    #[track_caller]
    pub fn finish_with_open_stdin(mut self) -> Ran {
        if !wait_for_end(&mut self.child, patience()) {
            let (out, err) = (self.stdout(), self.stderr());
            panic!("`{}` hangs since {:?}:\n{out}\n--- stderr\n{err}", self.shown, patience());
        }
        let status = self.child.wait().unwrap();
        let code =
            status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap());
        let command = std::mem::take(&mut self.shown);
        Ran { command, code, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.runs() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits for a process that is ours at most so long; whether it ended.
pub(crate) fn wait_for_end(child: &mut Child, patience: Duration) -> bool {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return true;
    }
    let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else { return true };
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}

/// A stream read by a thread until it ends.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collected {
    fn read(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, thread: Some(thread) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All of it. A stream that somebody still holds open after the program ended counts as ended after a while.
    fn all(&mut self) -> String {
        let start = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && start.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.thread = None;
        self.text()
    }
}
