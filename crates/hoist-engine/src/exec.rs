//! Exec: further processes in running containers. Their streams belong to the engine: pipes, or the pty's master end.

mod registry;
mod stream;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hoist_api::exec::{ExecCreate, ExecInspect, ExecStart, ProcessConfig};
use hoist_runtime::protocol::{ExecProcess, Failure, FailureKind};
use oci_spec::runtime::Process;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use tokio::sync::{mpsc, oneshot, watch};

use crate::container::ending::{exit_code, explained};
use crate::container::handle::{Event, ExecProgress, StartExec};
use crate::container::state::{Request, admit};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names;
pub(crate) use registry::Registry;
use registry::{Entry, ExecState};
pub use stream::ExecStream;

/// The handle on execs. Clones share it.
#[derive(Clone, Debug)]
pub struct Execs {
    context: Arc<Context>,
    containers: crate::Containers,
}

impl Execs {
    pub(crate) fn new(containers: crate::Containers) -> Execs {
        Execs { context: containers.context().clone(), containers }
    }

    /// Registers an exec, its user looked up; nothing runs yet.
    pub fn create(&self, container: &str, request: ExecCreate) -> Result<String> {
        let Some(command) = request.cmd.as_ref().filter(|c| !c.is_empty()) else {
            return Err(Error::invalid("No exec command specified"));
        };
        let record = self.containers.record(container)?;
        admit(&record, Request::Exec)?;
        let action = format!("exec_create: {}", joined(command));
        let process = crate::lower::exec_process(&record, &self.context.directory(record.id()), &request)?;
        let id = names::random_id();
        let mut attributes = record.event_attributes();
        attributes.insert("execID".to_owned(), id.clone());
        self.context.execs.add(id.clone(), Entry::new(record.id().to_owned(), request, process));
        self.context.events.emit("container", &action, record.id(), attributes);
        Ok(id)
    }

    /// Whether the exec has a tty, as asked for at create.
    pub fn tty(&self, id: &str) -> Result<bool> {
        Ok(self.context.execs.get(id)?.request.tty)
    }

    /// Starts it. The error is an API error if it could not even be tried; a command that cannot be executed is told by
    /// the stream (attached) or by an error (detached).
    pub async fn start(&self, id: &str, start: &ExecStart) -> Result<ExecStream> {
        self.launch(id, start).await?.started().await
    }

    /// The first part of starting it: hands it to the container's supervisor.
    pub async fn launch(&self, id: &str, start: &ExecStart) -> Result<LaunchedExec> {
        let entry = self.context.execs.get(id)?;
        let Some(process) = entry.take_process() else {
            return Err(Error::conflict(format!("exec command {id} has already run")));
        };
        let code_of_refusal = if process.cwd().is_absolute() { 126 } else { 128 };
        match self.hand_over(id, &entry, process, start).await {
            Ok((streams, listener)) => {
                Ok(LaunchedExec { id: id.to_owned(), context: self.context.clone(), entry, streams, listener })
            }
            Err(error) => {
                self.context.execs.ended(id, &entry, code_of_refusal);
                Err(error)
            }
        }
    }

    async fn hand_over(
        &self,
        id: &str,
        entry: &Entry,
        mut process: Process,
        start: &ExecStart,
    ) -> Result<(Streams, mpsc::UnboundedReceiver<ExecProgress>)> {
        let handle = self.containers.get(&entry.container_id)?;
        let request = &entry.request;
        if !process.cwd().is_absolute() {
            return Err(Error::invalid("OCI runtime exec failed: exec failed: Cwd must be an absolute path"));
        }
        if let Some(size) = start.console_size.or(request.console_size) {
            crate::lower::set_console_size(&mut process, size);
        }
        let attached = !(start.detach || request.detach);
        let (streams, fds) = Streams::make(request, attached)?;
        let (progress, listener) = mpsc::unbounded_channel();
        let exec = StartExec {
            exec_id: id.to_owned(),
            process: ExecProcess { process, privileged: request.privileged },
            fds,
            progress,
        };
        let (reply, answer) = oneshot::channel();
        handle.tell(Event::Exec { exec: Box::new(exec), reply })?;
        answer.await.map_err(|_| Error::not_running(&entry.container_id))?.map_err(|refused| refused.0)?;
        Ok((streams, listener))
    }

    /// Resizes its pty.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let entry = self.context.execs.get(id)?;
        if !entry.state.borrow().running {
            return Err(Error::conflict(format!("exec process {id} is not running")));
        }
        stream::resize(id, rows, columns)
    }

    pub fn inspect(&self, id: &str) -> Result<ExecInspect> {
        let entry = self.context.execs.get(id)?;
        let (state, request) = (entry.state.borrow().clone(), &entry.request);
        let command = request.cmd.clone().unwrap_or_default();
        Ok(ExecInspect {
            id: id.to_owned(),
            running: state.running,
            exit_code: state.exit_code,
            process_config: ProcessConfig {
                tty: request.tty,
                entrypoint: command.first().cloned().unwrap_or_default(),
                arguments: command.iter().skip(1).cloned().collect(),
                privileged: request.privileged,
                user: request.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: state.exit_code.is_some(),
            container_id: entry.container_id.clone(),
            detach_keys: request.detach_keys.clone(),
            pid: state.pid,
        })
    }
}

/// An exec that its supervisor knows of.
#[derive(Debug)]
pub struct LaunchedExec {
    id: String,
    context: Arc<Context>,
    entry: Arc<Entry>,
    streams: Streams,
    listener: mpsc::UnboundedReceiver<ExecProgress>,
}

impl LaunchedExec {
    /// Waits until the command runs, or cannot.
    pub async fn started(self) -> Result<ExecStream> {
        let LaunchedExec { id, context, entry, streams, mut listener } = self;
        let failure = match listener.recv().await {
            Some(ExecProgress::Started { pid }) => {
                entry.state.send_modify(|s| (s.running, s.pid) = (true, pid));
                None
            }
            Some(ExecProgress::Failed(failure)) => Some(failure),
            Some(ExecProgress::Exited(code)) => {
                context.execs.ended(&id, &entry, code);
                None
            }
            None => Some(Failure { kind: FailureKind::Other, message: "the container has ended".to_owned() }),
        };
        if let Some(failure) = failure {
            context.execs.ended(&id, &entry, exit_code(&failure).unwrap_or(126));
            return Err(Error::invalid(explained(format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {}",
                failure.message
            ))));
        }
        let state: watch::Receiver<ExecState> = entry.state.subscribe();
        tokio::spawn(async move {
            let code = loop {
                match listener.recv().await {
                    Some(ExecProgress::Exited(code)) => break code,
                    Some(_) => {}
                    None => break 137,
                }
            };
            context.execs.ended(&id, &entry, code);
        });
        streams.into_stream(state).await
    }
}

/// Docker's event text: the entrypoint, a blank, the arguments.
fn joined(command: &[String]) -> String {
    let (entrypoint, arguments) = command.split_first().map_or(("", &[][..]), |(e, a)| (e.as_str(), a));
    format!("{entrypoint} {}", arguments.join(" "))
}

/// The engine's ends of an exec's streams, before they are wired up.
#[derive(Debug)]
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// With a tty: where the pty's master arrives.
    master: Option<OwnedFd>,
}

impl Streams {
    /// Our ends and, in the order of the protocol, the process's ends.
    fn make(request: &ExecCreate, attached: bool) -> Result<(Streams, Vec<OwnedFd>)> {
        let failed = |e: rustix::io::Errno| Error::internal(format!("cannot make the exec's streams: {e}"));
        if request.tty {
            let (ours, theirs) =
                rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                    .map_err(failed)?;
            return Ok((Streams { stdin: None, stdout: None, stderr: None, master: Some(ours) }, vec![theirs]));
        }
        let null = || {
            use rustix::fs::{Mode, OFlags};
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
        };
        let mut streams = Streams { stdin: None, stdout: None, stderr: None, master: None };
        let mut theirs = Vec::with_capacity(3);
        if attached && request.attach_stdin {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
            streams.stdin = Some(write);
            theirs.push(read);
        } else {
            theirs.push(null()?);
        }
        for (wanted, slot) in
            [(request.attach_stdout, &mut streams.stdout), (request.attach_stderr, &mut streams.stderr)]
        {
            if attached && wanted {
                let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
                *slot = Some(read);
                theirs.push(write);
            } else {
                theirs.push(null()?);
            }
        }
        Ok((streams, theirs))
    }
}
