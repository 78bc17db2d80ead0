//! The task that owns one container. Requests, the supervisor's messages and restart timers arrive one at a time; nobody
//! else changes the record. Everybody else reads the snapshots it publishes.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use hoist_api::time::now_ns;
use hoist_runtime::protocol::{ExecProcess, Exit, Failure, FromSupervisor, ToSupervisor};
use hoist_runtime::spawner::Link;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::container::record::{Fixed, Record, Status};
use crate::container::state::{Request, admit};
use crate::containers::Context;
use crate::error::{Error, Result};

/// What can happen to a container.
pub(crate) enum Event {
    Start {
        reply: Reply,
    },
    /// A signal by number; `stopping`: the restart policy rests.
    Kill {
        signal: i32,
        stopping: bool,
        reply: Reply,
    },
    Pause {
        reply: Reply,
    },
    Unpause {
        reply: Reply,
    },
    Rename {
        name: String,
        reply: Reply,
    },
    Update {
        fixed: Box<Fixed>,
        reply: Reply,
    },
    Remove {
        force: bool,
        volumes: bool,
        reply: Reply,
    },
    Attach {
        attach: PendingAttach,
        reply: Reply,
    },
    Resize {
        rows: u16,
        columns: u16,
        reply: Reply,
    },
    Exec {
        exec: StartExec,
        reply: oneshot::Sender<std::result::Result<(), ExecRefused>>,
    },
    ExecResize {
        exec_id: String,
        rows: u16,
        columns: u16,
    },
    /// Orderly end of the engine: stop watching, leave the container to its supervisor.
    Abandon,
}

pub(crate) type Reply = oneshot::Sender<Result<()>>;

/// An attachment: our end stays with the client, this end goes to the supervisor.
pub(crate) struct PendingAttach {
    pub socket: OwnedFd,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// An exec to start, and who hears of its life.
pub(crate) struct StartExec {
    pub exec_id: String,
    pub process: ExecProcess,
    pub fds: Vec<OwnedFd>,
    pub progress: mpsc::UnboundedSender<ExecProgress>,
}

/// Why an exec could not be handed over.
pub(crate) struct ExecRefused(pub Error);

/// What happens to an exec.
pub(crate) enum ExecProgress {
    Started { pid: i32 },
    Failed(Failure),
    Exited(i32),
}

/// How others reach a container.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    events: mpsc::UnboundedSender<Event>,
    snapshots: watch::Receiver<Arc<Record>>,
}

impl Handle {
    /// The record as of now.
    pub(crate) fn record(&self) -> Arc<Record> {
        self.snapshots.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Record>> {
        self.snapshots.clone()
    }

    /// Sends an event and waits for its answer.
    pub(crate) async fn ask(&self, make: impl FnOnce(Reply) -> Event) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::no_such_container(self.record().id());
        self.events.send(make(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Sends an event that has its own answer or none.
    pub(crate) fn tell(&self, event: Event) -> Result<()> {
        self.events.send(event).map_err(|_| Error::no_such_container(self.record().id()))
    }
}

/// The task's own state.
pub(crate) struct Driver {
    pub(super) context: Arc<Context>,
    pub(super) record: Record,
    snapshots: watch::Sender<Arc<Record>>,
    pub(super) link: Option<AsyncFd<SupervisorLink>>,
    /// Attachments that came before the start.
    pub(super) waiting: VecDeque<PendingAttach>,
    pub(super) start_reply: Option<Reply>,
    execs: HashMap<String, mpsc::UnboundedSender<ExecProgress>>,
    restart_at: Option<Instant>,
    restart_delay: Duration,
    stopping: bool,
    gone: bool,
}

const FIRST_RESTART_DELAY: Duration = Duration::from_millis(100);
const LONGEST_RESTART_DELAY: Duration = Duration::from_secs(60);
/// A run this long starts the back-off anew.
const GOOD_RUN_NS: i64 = 10_000_000_000;

/// A supervisor's link as tokio wants it.
pub(crate) struct SupervisorLink(pub Link);

impl AsRawFd for SupervisorLink {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Starts the task for a record.
pub(crate) fn spawn(context: Arc<Context>, record: Record, link: Option<Link>) -> Handle {
    let (events, inbox) = mpsc::unbounded_channel();
    let (snapshots, reader) = watch::channel(Arc::new(record.clone()));
    let link = link.and_then(|link| {
        crate::stream::watch(SupervisorLink(link))
            .map_err(|e| tracing::error!(container = record.id(), "cannot watch the supervisor: {e}"))
            .ok()
    });
    let driver = Driver {
        context,
        record,
        snapshots,
        link,
        waiting: VecDeque::new(),
        start_reply: None,
        execs: HashMap::new(),
        restart_at: None,
        restart_delay: FIRST_RESTART_DELAY,
        stopping: false,
        gone: false,
    };
    tokio::spawn(driver.run(inbox));
    Handle { events, snapshots: reader }
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        while !self.gone {
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(Event::Abandon) | None => return,
                    Some(event) => self.on_event(event).await,
                },
                message = receive(self.link.as_ref()) => self.on_supervisor(message),
                () = sleep_until(self.restart_at) => self.on_restart_due(),
            }
        }
    }

    /// Publishes the record to everybody who reads or waits.
    pub(super) fn publish(&self) {
        self.snapshots.send_replace(Arc::new(self.record.clone()));
    }

    pub(super) fn emit(&self, action: &str, more: &[(&str, String)]) {
        let mut attributes = self.record.event_attributes();
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        self.context.events.emit("container", action, self.record.id(), attributes);
    }

    pub(super) fn save_state(&self) {
        if let Err(e) = self.context.records.save_state(&self.record) {
            tracing::error!(container = self.record.id(), "cannot save the container's state: {e}");
        }
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Start { reply } => self.on_start(reply),
            Event::Kill { signal, stopping, reply } => _ = reply.send(self.on_kill(signal, stopping)),
            Event::Pause { reply } => _ = reply.send(self.on_freeze(true)),
            Event::Unpause { reply } => _ = reply.send(self.on_freeze(false)),
            Event::Rename { name, reply } => _ = reply.send(self.on_rename(name)),
            Event::Update { fixed, reply } => _ = reply.send(self.on_update(*fixed)),
            Event::Remove { force, volumes, reply } => self.on_remove(force, volumes, reply).await,
            Event::Attach { attach, reply } => _ = reply.send(self.on_attach(attach)),
            Event::Resize { rows, columns, reply } => _ = reply.send(self.on_resize(rows, columns)),
            Event::Exec { exec, reply } => _ = reply.send(self.on_exec(exec).map_err(ExecRefused)),
            Event::ExecResize { .. } | Event::Abandon => {}
        }
    }

    fn on_start(&mut self, reply: Reply) {
        if let Err(denied) = admit(&self.record, Request::Start) {
            _ = reply.send(Err(denied));
            return;
        }
        if self.start_reply.is_some() {
            _ = reply.send(Err(Error::not_modified("")));
            return;
        }
        self.record.state.manually_stopped = false;
        self.record.state.restart_count = 0;
        self.restart_delay = FIRST_RESTART_DELAY;
        match self.launch() {
            Ok(link) => {
                self.link = Some(link);
                self.start_reply = Some(reply);
            }
            Err(error) => {
                let error = self.start_failed(error, 128);
                _ = reply.send(Err(error));
            }
        }
    }

    /// Notes a failed start: the network is given back, the record tells why.
    fn start_failed(&mut self, error: Error, exit_code: i32) -> Error {
        self.link = None;
        self.waiting.clear();
        self.release_network();
        self.record.state.error.clone_from(&error.message);
        self.record.state.exit_code = exit_code;
        self.record.state.exits += 1;
        if self.record.state.status == Status::Restarting {
            self.record.state.status = Status::Exited;
            self.record.state.finished_ns = now_ns();
        }
        self.save_state();
        self.publish();
        if self.record.fixed.host_config.auto_remove {
            self.remove_now(true);
        }
        error
    }

    fn on_kill(&mut self, signal: i32, stopping: bool) -> Result<()> {
        admit(&self.record, Request::Kill)?;
        if stopping || matches!(signal, libc_signals::SIGKILL | libc_signals::SIGTERM) {
            self.record.state.manually_stopped = stopping || self.record.state.manually_stopped;
            self.stopping = stopping;
        }
        if self.record.state.status == Status::Restarting && self.link.is_none() {
            self.restart_at = None;
            self.record.state.status = Status::Exited;
            self.record.state.exits += 1;
            self.save_state();
            self.publish();
            return Ok(());
        }
        self.send(&ToSupervisor::Signal { signal, all: false }, &[])?;
        self.emit("kill", &[("signal", signal.to_string())]);
        if self.record.state.status == Status::Paused {
            self.on_freeze(false)?;
        }
        Ok(())
    }

    fn on_freeze(&mut self, frozen: bool) -> Result<()> {
        admit(&self.record, if frozen { Request::Pause } else { Request::Unpause })?;
        let group = hoist_runtime::cgroup::at(&self.context.cgroup_path(&self.record));
        let word = if frozen { "pause" } else { "unpause" };
        group
            .freeze(frozen)
            .map_err(|e| Error::internal(format!("cannot {word} container {}: {e}", self.record.id())))?;
        self.record.state.status = if frozen { Status::Paused } else { Status::Running };
        self.save_state();
        self.publish();
        self.emit(word, &[]);
        Ok(())
    }

    fn on_rename(&mut self, name: String) -> Result<()> {
        let old = std::mem::replace(&mut self.record.name, name);
        if let Err(error) = self.context.records.save_all(&self.record) {
            self.record.name = old;
            return Err(error);
        }
        self.publish();
        self.emit("rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    fn on_update(&mut self, fixed: Fixed) -> Result<()> {
        admit(&self.record, Request::Update)?;
        if self.record.state.status.alive() {
            let group = hoist_runtime::cgroup::at(&self.context.cgroup_path(&self.record));
            let limits =
                crate::lower::resources::limits(&fixed.host_config.resources, hoist_runtime::cgroup::version())?;
            group
                .update(&limits)
                .map_err(|e| Error::internal(format!("Cannot update container {}: {e}", self.record.id())))?;
        }
        self.record.fixed = Arc::new(fixed);
        self.context.records.save_all(&self.record)?;
        self.publish();
        self.emit("update", &[]);
        Ok(())
    }

    fn on_attach(&mut self, attach: PendingAttach) -> Result<()> {
        admit(&self.record, Request::Attach)?;
        if self.link.is_some() {
            self.hand_over(&attach)?;
        } else {
            self.waiting.push_back(attach);
        }
        self.emit("attach", &[]);
        Ok(())
    }

    /// Gives an attachment to the supervisor.
    pub(super) fn hand_over(&self, attach: &PendingAttach) -> Result<()> {
        let message = ToSupervisor::Attach { stdin: attach.stdin, stdout: attach.stdout, stderr: attach.stderr };
        self.send(&message, &[attach.socket.as_fd()])
    }

    fn on_resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        admit(&self.record, Request::Resize)?;
        self.send(&ToSupervisor::Resize { rows, columns }, &[])?;
        self.emit("resize", &[("height", rows.to_string()), ("width", columns.to_string())]);
        Ok(())
    }

    fn on_exec(&mut self, exec: StartExec) -> Result<()> {
        admit(&self.record, Request::Exec)?;
        let command = exec.process.process.args().clone().unwrap_or_default().join(" ");
        let message = ToSupervisor::Exec { exec_id: exec.exec_id.clone(), process: Box::new(exec.process) };
        let fds: Vec<_> = exec.fds.iter().map(AsFd::as_fd).collect();
        self.send(&message, &fds)?;
        self.emit(&format!("exec_start: {command}"), &[("execID", exec.exec_id.clone())]);
        self.execs.insert(exec.exec_id, exec.progress);
        Ok(())
    }

    pub(super) fn send(&self, message: &ToSupervisor, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<()> {
        let link = self.link.as_ref().ok_or_else(|| Error::not_running(self.record.id()))?;
        link.get_ref()
            .0
            .send(message, fds)
            .map_err(|e| Error::internal(format!("cannot reach the supervisor of container {}: {e}", self.record.id())))
    }

    fn on_supervisor(&mut self, message: Option<FromSupervisor>) {
        match message {
            Some(FromSupervisor::Hello { state, execs, .. }) => self.on_hello(state, &execs),
            Some(FromSupervisor::Started { pid, started_at_ns, .. }) => self.on_started(pid, started_at_ns),
            Some(FromSupervisor::StartFailed(failure)) => self.on_start_failed(failure),
            Some(FromSupervisor::Exited(exit)) => self.on_exited(&exit),
            Some(FromSupervisor::Oom) => self.emit("oom", &[]),
            Some(FromSupervisor::ExecStarted { exec_id, pid }) => {
                self.tell_exec(&exec_id, ExecProgress::Started { pid });
            }
            Some(FromSupervisor::ExecFailed { exec_id, failure }) => {
                self.tell_exec(&exec_id, ExecProgress::Failed(failure));
                self.execs.remove(&exec_id);
            }
            Some(FromSupervisor::ExecExited { exec_id, exit_code }) => {
                self.tell_exec(&exec_id, ExecProgress::Exited(exit_code));
                self.execs.remove(&exec_id);
                self.emit("exec_die", &[("execID", exec_id), ("exitCode", exit_code.to_string())]);
            }
            None => self.on_link_lost(),
        }
    }

    fn tell_exec(&self, exec_id: &str, progress: ExecProgress) {
        if let Some(listener) = self.execs.get(exec_id) {
            _ = listener.send(progress);
        }
    }

    fn on_hello(&mut self, state: hoist_runtime::protocol::State, _execs: &[hoist_runtime::protocol::RunningExec]) {
        use hoist_runtime::protocol::State;
        if let State::Running { pid, started_at_ns } = state
            && (self.record.state.pid != pid || !self.record.state.status.alive())
            && self.start_reply.is_none()
        {
            self.record.state.pid = pid;
            self.record.state.started_ns = started_at_ns;
            if !self.record.state.status.alive() {
                self.record.state.status = Status::Running;
            }
            self.save_state();
            self.publish();
        }
    }

    fn on_started(&mut self, pid: i32, started_at_ns: i64) {
        let state = &mut self.record.state;
        state.status = Status::Running;
        state.pid = pid;
        state.started_ns = started_at_ns;
        state.finished_ns = 0;
        state.exit_code = 0;
        state.oom_killed = false;
        state.error.clear();
        self.publish();
        self.emit("start", &[]);
        if let Some(reply) = self.start_reply.take() {
            _ = reply.send(Ok(()));
        }
        self.save_state();
    }

    fn on_start_failed(&mut self, failure: Failure) {
        use hoist_runtime::protocol::FailureKind;
        let code = match failure.kind {
            FailureKind::NotFound => 127,
            FailureKind::NotExecutable => 126,
            FailureKind::Other => 128,
        };
        let text = format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {}",
            failure.message
        );
        let error = if code == 128 { Error::internal(text) } else { Error::invalid(text) };
        let error = self.start_failed(error, code);
        if let Some(reply) = self.start_reply.take() {
            _ = reply.send(Err(error));
        }
    }

    /// The supervisor is gone without a word: its exit file tells, or it was killed.
    fn on_link_lost(&mut self) {
        self.link = None;
        if self.start_reply.is_some() {
            self.on_start_failed(Failure {
                kind: hoist_runtime::protocol::FailureKind::Other,
                message: "the container's supervisor ended unexpectedly".to_owned(),
            });
            return;
        }
        if !self.record.state.status.alive() {
            return;
        }
        let exit = crate::adopt::read_exit(&self.context.directory(self.record.id()), self.record.state.started_ns);
        let exit = exit.unwrap_or_else(|| {
            tracing::error!(container = self.record.id(), "the supervisor was lost; ending the container");
            _ = hoist_runtime::cgroup::at(&self.context.cgroup_path(&self.record)).remove();
            Exit {
                exit_code: 137,
                oom_killed: false,
                started_at_ns: self.record.state.started_ns,
                finished_at_ns: now_ns(),
            }
        });
        self.on_exited(&exit);
    }

    pub(super) fn on_exited(&mut self, exit: &Exit) {
        self.link = None;
        for (_, listener) in self.execs.drain() {
            _ = listener.send(ExecProgress::Exited(137));
        }
        let state = &mut self.record.state;
        let ran_ns = exit.finished_at_ns - exit.started_at_ns;
        state.status = Status::Exited;
        state.pid = 0;
        state.exit_code = exit.exit_code;
        state.oom_killed = exit.oom_killed;
        state.finished_ns = exit.finished_at_ns;
        state.exits += 1;
        self.release_network();
        if self.record.fixed.host_config.ipc_mode == "shareable" {
            crate::ipc::unmount(&self.context.directory(self.record.id()));
        }
        let again = self.plan_restart(exit.exit_code, ran_ns);
        if again {
            self.record.state.status = Status::Restarting;
        }
        let auto_remove = self.record.fixed.host_config.auto_remove;
        if !auto_remove {
            self.save_state();
        }
        self.publish();
        if std::mem::take(&mut self.stopping) {
            self.emit("stop", &[]);
        }
        self.emit(
            "die",
            &[("exitCode", exit.exit_code.to_string()), ("execDuration", (ran_ns / 1_000_000_000).to_string())],
        );
        if auto_remove {
            self.remove_now(true);
        }
    }

    /// Whether the restart policy starts it again, and when.
    fn plan_restart(&mut self, exit_code: i32, ran_ns: i64) -> bool {
        let policy = self.record.restart_policy();
        let wanted = !self.record.state.manually_stopped
            && match policy.name.as_str() {
                "always" | "unless-stopped" => true,
                "on-failure" => {
                    exit_code != 0
                        && (policy.maximum_retry_count == 0
                            || self.record.state.restart_count < policy.maximum_retry_count)
                }
                _ => false,
            };
        if !wanted {
            return false;
        }
        self.restart_delay = if ran_ns >= GOOD_RUN_NS {
            FIRST_RESTART_DELAY
        } else if self.record.state.restart_count == 0 {
            FIRST_RESTART_DELAY
        } else {
            (self.restart_delay * 2).min(LONGEST_RESTART_DELAY)
        };
        self.restart_at = Some(Instant::now() + self.restart_delay);
        true
    }

    fn on_restart_due(&mut self) {
        self.restart_at = None;
        self.record.state.restart_count += 1;
        match self.launch() {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                tracing::warn!(container = self.record.id(), "restart failed: {error}");
                _ = self.start_failed(error, 128);
            }
        }
    }

    fn release_network(&mut self) {
        if let Some(endpoint) = self.record.state.endpoint.take() {
            self.context.networks.release(&endpoint);
            let attributes = [
                ("container".to_owned(), self.record.id().to_owned()),
                ("name".to_owned(), endpoint.network_name.clone()),
                ("type".to_owned(), "bridge".to_owned()),
            ];
            self.context.events.emit("network", "disconnect", &endpoint.network_id, attributes.into());
        }
    }

    async fn on_remove(&mut self, force: bool, volumes: bool, reply: Reply) {
        if let Err(denied) = admit(&self.record, Request::Remove { force }) {
            _ = reply.send(Err(denied));
            return;
        }
        if self.record.state.status.alive() || self.link.is_some() {
            self.record.state.manually_stopped = true;
            let killed = self.send(&ToSupervisor::Signal { signal: libc_signals::SIGKILL, all: false }, &[]);
            if killed.is_ok() {
                self.emit("kill", &[("signal", "9".to_owned())]);
            }
            if self.record.state.status == Status::Paused {
                _ = self.on_freeze(false);
            }
            if !self.await_exit().await {
                _ = reply.send(Err(Error::internal(format!(
                    "cannot remove container \"{}\": could not kill container: it did not end in 10 s",
                    self.record.name
                ))));
                return;
            }
        }
        self.restart_at = None;
        if !self.gone {
            self.remove_now(volumes);
        }
        _ = reply.send(Ok(()));
    }

    /// Works off the supervisor's messages until the container has ended; false after ten seconds.
    async fn await_exit(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.link.is_some() {
            let message = tokio::time::timeout_at(deadline, receive(self.link.as_ref())).await;
            match message {
                Ok(message) => self.on_supervisor(message),
                Err(_) => return false,
            }
        }
        true
    }

    /// Takes the container out of the books; its files go in the background.
    pub(super) fn remove_now(&mut self, volumes: bool) {
        self.record.state.status = Status::Removing;
        if let Err(e) = self.context.records.delete(self.record.id()) {
            tracing::error!(container = self.record.id(), "cannot delete the container's record: {e}");
        }
        self.context.forget(&self.record, volumes);
        self.emit("destroy", &[]);
        self.record.state.removed = true;
        self.publish();
        self.gone = true;
    }
}

/// The next message of the supervisor; pending for ever when there is no link. `None`: the link is gone.
async fn receive(link: Option<&AsyncFd<SupervisorLink>>) -> Option<FromSupervisor> {
    let Some(link) = link else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = link.readable().await else { return None };
        match link.get_ref().0.receive() {
            Ok(message) => return message,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(_) => return None,
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Signal numbers by name (signal(7)); the same on every architecture that Linux has these two on.
mod libc_signals {
    pub(super) const SIGKILL: i32 = 9;
    pub(super) const SIGTERM: i32 = 15;
}
