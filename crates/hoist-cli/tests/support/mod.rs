//! Runs the command line as a process of its own against a scripted engine, so that output, exit status, sockets and
//! signals are the real ones.

#![allow(dead_code, reason = "no test program uses all of it")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A request as the engine saw it.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        let mut words = self.line.split(' ');
        let found = words.next() == Some(method);
        let target = words.next().unwrap_or_default();
        found && target.split('?').next().is_some_and(|target| target.ends_with(path))
    }
}

/// Answers one request; after a hijack it may go on with the connection.
pub(crate) type Script = dyn Fn(&Request, &mut UnixStream) + Send + Sync;

pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    /// The whole heads of the same requests.
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A path of our own in the temporary directory.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("hoist-cli-{}-{number}-{name}", std::process::id()))
}

impl Engine {
    pub(crate) fn start(script: impl Fn(&Request, &mut UnixStream) + Send + Sync + 'static) -> Self {
        let socket = scratch("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let script: Arc<Script> = Arc::new(script);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (log, all) = (Arc::clone(&seen), Arc::clone(&heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log, all) = (Arc::clone(&script), Arc::clone(&log), Arc::clone(&all));
                std::thread::spawn(move || serve(stream, &*script, &log, &all));
            }
        });
        Self { socket, seen, heads }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, b"")
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut running = self.spawn(args);
        running.child.stdin.take().unwrap().write_all(input).unwrap();
        running.finish()
    }

    /// With a directory as its input.
    pub(crate) fn run_on_directory(&self, args: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket.display());
        let (mut command, out) = command(args, &[("HOIST_HOST", &host)]);
        let child = command.stdin(std::fs::File::open("/").unwrap()).spawn().unwrap();
        Running { child, out }.finish()
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        spawn(args, &[("HOIST_HOST", &format!("unix://{}", self.socket.display()))])
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(stream: UnixStream, script: &Script, log: &Mutex<Vec<String>>, heads: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            let is_end = line == "\r\n";
            head.push_str(&line);
            if is_end {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let line = head.lines().next().unwrap_or_default().to_owned();
        log.lock().unwrap().push(line.clone());
        heads.lock().unwrap().push(head);
        script(&Request { line, body }, &mut stream);
    }
}

pub(crate) fn answer(stream: &mut UnixStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes());
}

pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Running {
    pub(crate) child: Child,
    out: PathBuf,
}

impl Running {
    pub(crate) fn finish(mut self) -> Output {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        let stdout = std::fs::read_to_string(&self.out).unwrap_or_default();
        let _ = std::fs::remove_file(&self.out);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Output { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }
}

const ARGS: &str = "HOIST_CLI_TEST_ARGS";
const OUT: &str = "HOIST_CLI_TEST_OUT";

/// Starts this test program again as `hoist`: the test `entry_of_the_command_line` becomes it.
pub(crate) fn spawn(args: &[&str], env: &[(&str, &str)]) -> Running {
    let (mut command, out) = command(args, env);
    Running { child: command.spawn().unwrap(), out }
}

/// How it is started, and the file that gets what it prints.
fn command(args: &[&str], env: &[(&str, &str)]) -> (Command, PathBuf) {
    let out = scratch("out");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "entry_of_the_command_line", "--nocapture", "--test-threads=1"]);
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION", "DOCKER_TLS_VERIFY", "DOCKER_DEFAULT_PLATFORM"]
    {
        command.env_remove(name);
    }
    command.env(ARGS, args.join("\u{1f}")).env(OUT, &out).env("DOCKER_CONFIG", "/nonexistent").env("TZ", "UTC");
    command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    (command, out)
}

/// Becomes the command line if this process was started for it.
pub(crate) fn become_the_command_line() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let out = std::fs::File::create(Path::new(&std::env::var_os(OUT).unwrap())).unwrap();
    rustix::stdio::dup2_stdout(&out).unwrap();
    let args = std::iter::once("hoist").chain(args.split('\u{1f}').skip_while(|_| args.is_empty()));
    std::process::exit(hoist_cli::main(args.map(Into::into).collect()));
}
