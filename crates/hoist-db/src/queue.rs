//! Changes that nobody waits for, in their order, and the thread that works them off.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::Open;

pub(crate) type Job = Box<dyn FnOnce(&mut Open) + Send>;

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    has_worker: bool,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.lock().jobs.len()).finish()
    }
}

impl Queue {
    /// Adds a job. The first one starts the thread, which calls `work` when there is something to do, until that says that
    /// the database is gone. False: there is no thread and none could be started.
    pub(crate) fn push(self: &Arc<Self>, job: Job, work: impl Fn() -> bool + Send + 'static) -> bool {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if !state.has_worker {
            let queue = self.clone();
            let thread = std::thread::Builder::new().name("hoist-db".to_owned());
            state.has_worker = thread.spawn(move || while queue.wait() && work() {}).is_ok();
        }
        self.changed.notify_one();
        state.has_worker
    }

    /// Runs everything that waits.
    pub(crate) fn work_off(&self, open: &mut Open) {
        loop {
            // Not held while the job runs: others may add more.
            let Some(job) = self.lock().jobs.pop_front() else { return };
            job(open);
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// False when it is closed.
    fn wait(&self) -> bool {
        let waits = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let state = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
