//! Messages between an engine and a supervisor: one JSON datagram each over `SOCK_SEQPACKET` unix sockets, fds by
//! `SCM_RIGHTS`. The protocol only grows: unknown fields and unknown messages are ignored, fields have defaults.
//!
//! An engine of any release can connect to `<run_dir>/supervisor.sock`; the supervisor speaks first ([`FromSupervisor::Hello`]).

use serde::{Deserialize, Serialize};

/// Version of the protocol that this build speaks. 2: [`ToSupervisor::InFile`].
pub const PROTOCOL_VERSION: u32 = 2;

/// Longest datagram, in bytes; a longer message to a supervisor travels [`ToSupervisor::InFile`].
pub const MAX_MESSAGE_BYTES: usize = 192 * 1024;

/// Longest message in a file, in bytes. The kernel takes 6 MiB of arguments and environment at most (execve(2)); JSON has a
/// few characters more for each.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// Name of the socket in the run directory.
pub const SOCKET_NAME: &str = "supervisor.sock";

/// Name of the file in the run directory that holds the supervisor's pid.
pub const PID_FILE_NAME: &str = "supervisor.pid";

/// Name of the file in the state directory that holds [`Exit`].
pub const EXIT_FILE_NAME: &str = "exit.json";

/// Engine to supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// One fd comes along: a stream socket. The supervisor writes output to it (stdcopy frames `[type,0,0,0,len_be32]`, raw
    /// with a tty) and reads stdin from it; it closes it when output is drained after exit. A slow attachment slows the
    /// container down, a closed one is forgotten. End of file on it closes the container's stdin if `stdin` and `Stdio::stdin_once`.
    Attach { stdin: bool, stdout: bool, stderr: bool },
    /// Let the init that was prepared exec the user's program. Messages before it (attachments) come into force before.
    Start,
    /// Sends a signal to pid 1 (`all`: to every process of the container).
    Signal {
        signal: i32,
        #[serde(default)]
        all: bool,
    },
    /// Resizes the pty.
    Resize { rows: u16, columns: u16 },
    /// Starts another process in the container. Without tty three fds come along (stdin, stdout, stderr: the engine's pipe
    /// ends, /dev/null where not wanted). With tty one fd comes along, a stream socket over which the supervisor's child
    /// sends the pty master's fd (one byte `m` + SCM_RIGHTS). Answered by `ExecStarted` or `ExecFailed`, later `ExecExited`.
    Exec { exec_id: String, process: Box<ExecProcess> },
    /// Sends a signal to an exec'd process.
    ExecSignal { exec_id: String, signal: i32 },
    /// Asks for [`FromSupervisor::Hello`] again.
    Status,
    /// Gives up a launch that was not started yet.
    Abort,
    /// The message is too long for a datagram, and is in the first fd that comes along, a memfd; the other fds are its own.
    InFile,
}

/// A process to run inside a container: OCI's `process` object and Docker's extras.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecProcess {
    pub process: oci_spec::runtime::Process,
    /// All capabilities that the engine has (docker exec --privileged); the container's seccomp filter stays, as with
    /// Docker.
    #[serde(default)]
    pub privileged: bool,
}

/// Supervisor to engine. Every connected engine gets every message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromSupervisor {
    /// State as of now; first message on each connection.
    Hello {
        version: u32,
        id: String,
        state: State,
        #[serde(default)]
        execs: Vec<RunningExec>,
    },
    /// pid 1 has exec'd.
    Started {
        pid: i32,
        started_at_ns: i64,
        /// Where the time went: phase name and nanoseconds, in order of their ends.
        #[serde(default)]
        phases: Vec<(String, u64)>,
    },
    /// The container did not start. The supervisor has undone everything and ends.
    StartFailed(Failure),
    /// pid 1 has ended; `exit.json` was written before this was sent and the log is complete. Attachments that read slowly
    /// still get what is left. Cgroup and mounts are gone when the connection ends, soon after this.
    Exited(Exit),
    /// The kernel's OOM killer took a process of the container.
    Oom,
    ExecStarted {
        exec_id: String,
        pid: i32,
    },
    ExecFailed {
        exec_id: String,
        failure: Failure,
    },
    ExecExited {
        exec_id: String,
        exit_code: i32,
    },
}

/// Where a supervisor is in its one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Preparing,
    Prepared,
    Running { pid: i32, started_at_ns: i64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunningExec {
    pub exec_id: String,
    pub pid: i32,
}

/// How pid 1 ended. Also the content of `exit.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, or 128 + signal.
    pub exit_code: i32,
    #[serde(default)]
    pub oom_killed: bool,
    /// When pid 1 exec'd, nanoseconds since the epoch.
    pub started_at_ns: i64,
    /// When it ended, nanoseconds since the epoch.
    pub finished_at_ns: i64,
    /// Entries of the log that found no room (`mode=non-blocking`).
    #[serde(default)]
    pub log_entries_dropped: u64,
}

/// Why something did not start; `message` is what a user reads, in runc's manner, for instance
/// `exec: "foo": executable file not found in $PATH` or `error mounting "/a" to rootfs at "/b": …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The command is not there (docker exit code 127).
    NotFound,
    /// The command cannot be executed (126).
    NotExecutable,
    /// Anything else (125, or 128 in the record).
    Other,
}

impl Failure {
    /// A failure that is no fault of the command.
    pub fn other(message: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Other, message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
