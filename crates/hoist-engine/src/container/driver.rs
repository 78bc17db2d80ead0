//! The task that owns one container. Requests, the supervisor's messages and restart timers arrive one at a time; nobody
//! else changes the record. Everybody else reads the snapshots it publishes.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use hoist_image::LeaseChange;
use hoist_runtime::protocol::{FromSupervisor, ToSupervisor};
use hoist_runtime::spawner::Link;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::container::handle::{Event, ExecProgress, ExecRefused, Handle, PendingAttach, Phases, StartReply};
use crate::container::record::{Record, Status};
use crate::context::Context;
use crate::error::{Error, Result};

/// The task's own state.
pub(crate) struct Driver {
    pub(super) context: Arc<Context>,
    pub(super) record: Record,
    snapshots: watch::Sender<Arc<Record>>,
    /// For answers that come later.
    pub(super) events: mpsc::WeakUnboundedSender<Event>,
    /// The record is not in the database yet.
    pub(super) unrecorded: Option<LeaseChange>,
    /// Why the start under way was given up.
    pub(super) not_recorded: Option<Error>,
    /// It could not be written to the database at all: for a later engine it would not exist, so it shall not for this one.
    pub(super) never_recorded: bool,
    pub(super) link: Option<AsyncFd<SupervisorLink>>,
    /// Attachments that came before the start.
    pub(super) waiting: VecDeque<PendingAttach>,
    pub(super) start_reply: Option<StartReply>,
    /// What the engine's own part of the start under way took.
    pub(super) phases: Phases,
    pub(super) execs: HashMap<String, mpsc::UnboundedSender<ExecProgress>>,
    pub(super) restart_at: Option<Instant>,
    pub(super) restart_delay: Duration,
    pub(super) stopping: bool,
    /// The container's volumes are taken for it, and the events have said so.
    pub(super) has_volumes: bool,
    /// The link was there when the engine started: nobody of this engine waits for a start.
    adopted: bool,
    pub(super) gone: bool,
}

pub(super) const FIRST_RESTART_DELAY: Duration = Duration::from_millis(100);

/// A supervisor's link as tokio wants it.
pub(crate) struct SupervisorLink(pub Link);

impl AsRawFd for SupervisorLink {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// How a task begins.
pub(crate) enum Beginning {
    Recorded,
    /// The record is not in the database yet; nor is the lease on its image.
    Unrecorded(LeaseChange),
    /// Its supervisor is running.
    Adopted(Link),
}

/// Starts the task for a record.
pub(crate) fn spawn(context: Arc<Context>, record: Record, beginning: Beginning) -> Handle {
    let (events, inbox) = mpsc::unbounded_channel();
    let (snapshots, reader) = watch::channel(Arc::new(record.clone()));
    let (link, unrecorded) = match beginning {
        Beginning::Recorded => (None, None),
        Beginning::Unrecorded(lease) => (None, Some(lease)),
        Beginning::Adopted(link) => (Some(link), None),
    };
    let link = link.and_then(|link| {
        crate::stream::watch(SupervisorLink(link))
            .map_err(|e| tracing::error!(container = record.id(), "cannot watch the supervisor: {e}"))
            .ok()
    });
    let adopted = link.is_some();
    let driver = Driver {
        context,
        record,
        snapshots,
        events: events.downgrade(),
        unrecorded,
        not_recorded: None,
        never_recorded: false,
        link,
        waiting: VecDeque::new(),
        start_reply: None,
        phases: Phases::new(),
        execs: HashMap::new(),
        restart_at: None,
        restart_delay: FIRST_RESTART_DELAY,
        stopping: false,
        has_volumes: adopted,
        adopted,
        gone: false,
    };
    tokio::spawn(driver.run(inbox));
    Handle::new(events, reader)
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        while !self.gone {
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(Event::Abandon) | None => {
                        if self.unrecorded.is_some() {
                            self.save_state();
                        }
                        return;
                    }
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

    /// In the database before this returns.
    pub(super) fn save_state(&mut self) {
        let records = &self.context.records;
        let saved = match self.unrecorded.take() {
            Some(lease) => records.insert(&self.record, lease, self.record.durable()),
            None => records.save_state(&self.record),
        };
        if let Err(e) = saved {
            tracing::error!(container = self.record.id(), "cannot save the container's state: {e}");
        }
    }

    /// In the database soon. For what a later engine finds out by itself from the supervisor or its exit file.
    pub(super) fn save_state_soon(&self) {
        let complain = self.complain("cannot save the container's state");
        if let Err(e) = self.context.records.save_state_later(&self.record, complain) {
            self.complain("cannot save the container's state")(Err(e));
        }
    }

    /// Logs how something went that nobody waits for.
    pub(super) fn complain(&self, what: &'static str) -> impl FnOnce(Result<()>) + Send + use<> {
        let id = self.record.id().to_owned();
        move |result| {
            if let Err(e) = result {
                tracing::error!(container = id, "{what}: {e}");
            }
        }
    }

    async fn on_event(&mut self, event: Event) {
        if self.unrecorded.is_some() && !matches!(event, Event::Attach { .. } | Event::Start { .. }) {
            self.save_state();
        }
        match event {
            Event::Start { reply } => self.on_start(reply),
            Event::Kill { signal, stopping, reply } => _ = reply.send(self.on_kill(signal, stopping)),
            Event::Pause { reply } => _ = reply.send(self.on_freeze(true)),
            Event::Unpause { reply } => _ = reply.send(self.on_freeze(false)),
            Event::Rename { name, reply } => _ = reply.send(self.on_rename(name)),
            Event::Unlink { alias, reply } => _ = reply.send(self.on_unlink(&alias)),
            Event::Update { fixed, reply } => _ = reply.send(self.on_update(*fixed)),
            Event::Remove { force, volumes, reply } => self.on_remove(force, volumes, reply).await,
            Event::Attach { attach, reply } => _ = reply.send(self.on_attach(attach)),
            Event::Resize { rows, columns, reply } => _ = reply.send(self.on_resize(rows, columns)),
            Event::Exec { exec, reply } => _ = reply.send(self.on_exec(*exec).map_err(ExecRefused)),
            Event::Recorded { first, result } => self.on_recorded(first, result),
            Event::Abandon => {}
        }
    }

    pub(super) fn send(&self, message: &ToSupervisor, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<()> {
        let link = self.link.as_ref().ok_or_else(|| Error::not_running(self.record.id()))?;
        link.get_ref()
            .0
            .send(message, fds)
            .map_err(|e| Error::internal(format!("cannot reach the supervisor of container {}: {e}", self.record.id())))
    }

    pub(super) fn on_supervisor(&mut self, message: Option<FromSupervisor>) {
        match message {
            Some(FromSupervisor::Hello { state, execs, .. }) => self.on_hello(state, &execs),
            Some(FromSupervisor::Started { pid, started_at_ns, phases }) => self.on_started(pid, started_at_ns, phases),
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
        if self.adopted && matches!(state, State::Preparing | State::Prepared) {
            // The engine before this one died between launch and start: whoever asked is gone.
            if let Err(e) = self.send(&ToSupervisor::Abort, &[]) {
                tracing::warn!(container = self.record.id(), "cannot give up a half-made start: {e}");
            }
        }
        self.adopted = false;
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

    fn on_started(&mut self, pid: i32, started_at_ns: i64, phases: Phases) {
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
        let mut all = std::mem::take(&mut self.phases);
        all.extend(phases);
        if let Some(reply) = self.start_reply.take() {
            _ = reply.send(Ok(all));
        }
        self.save_state_soon();
    }
}

/// The next message of the supervisor; pending for ever when there is no link. `None`: the link is gone.
pub(super) async fn receive(link: Option<&AsyncFd<SupervisorLink>>) -> Option<FromSupervisor> {
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
pub(super) mod signals {
    pub(crate) const SIGKILL: i32 = 9;
    pub(crate) const SIGTERM: i32 = 15;
}
