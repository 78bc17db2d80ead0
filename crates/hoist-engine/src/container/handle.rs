//! How others reach the task of a container: what they can ask, and the handle to ask with.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hoist_runtime::protocol::{ExecProcess, Failure};
use tokio::sync::{mpsc, oneshot, watch};

use crate::container::record::{Fixed, Record};
use crate::error::{Error, Result};

/// What can happen to a container.
pub(crate) enum Event {
    Start {
        reply: StartReply,
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
    Unlink {
        alias: String,
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
        exec: Box<StartExec>,
        reply: oneshot::Sender<std::result::Result<(), ExecRefused>>,
    },
    /// The record (`first`) or its state at the start is written, or could not be: the program may run, or must not.
    Recorded {
        first: bool,
        result: Result<()>,
    },
    /// Orderly end of the engine: stop watching, leave the container to its supervisor.
    Abandon,
}

pub(crate) type Reply = oneshot::Sender<Result<()>>;

/// Where a start's time went: names and nanoseconds, in order.
pub(crate) type Phases = Vec<(String, u64)>;

pub(crate) type StartReply = oneshot::Sender<Result<Phases>>;

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
    /// Of the task that works `events` off and publishes `snapshots`.
    pub(super) fn new(events: mpsc::UnboundedSender<Event>, snapshots: watch::Receiver<Arc<Record>>) -> Handle {
        Handle { events, snapshots }
    }

    /// The record as of now.
    pub(crate) fn record(&self) -> Arc<Record> {
        self.snapshots.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Record>> {
        self.snapshots.clone()
    }

    /// Sends an event and waits for its answer.
    pub(crate) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T>>) -> Event) -> Result<T> {
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
