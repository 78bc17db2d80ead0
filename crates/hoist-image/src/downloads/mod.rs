//! Layers on their way from registries: one download for each, however many pulls want it. Who joins late sees what the
//! others see; one who leaves disturbs nobody. A download that nobody waits for any more is paused, a finished one kept,
//! so that the next pull goes on where the last was interrupted; both are given up after a while.

mod task;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot, watch};

use crate::ingest::Ingest;
use crate::manifest::Descriptor;
use crate::registry::{Failure, Repository};
use crate::{Error, Progress, ProgressSink, Shared, digest};

/// Docker's default of `max-concurrent-downloads`.
const PARALLEL_DEFAULT: usize = 3;
/// For so long an interrupted pull can be taken up again.
pub(crate) const KEEP: Duration = Duration::from_secs(30 * 60);
/// A paused download keeps a thread and a few MiB; the oldest ones beyond these are given up.
const PAUSED_MAX: usize = 8;

/// All downloads of one store.
#[derive(Debug)]
pub(crate) struct Downloads {
    known: Mutex<HashMap<Key, Arc<Download>>>,
    slots: Slots,
}

/// Blob digest, size and unpacked digest, as a manifest and its config promise them: another promise about the same blob
/// must not spoil this one.
type Key = (String, u64, String);

/// How many layers come at a time.
#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    count: Mutex<usize>,
}

#[derive(Debug)]
struct Download {
    key: Key,
    ingest: Ingest,
    state: Mutex<State>,
    /// How many wait for it.
    wanted: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    waiters: Vec<Waiter>,
    serial: u64,
    /// What those who join late are told first.
    last: Option<Progress>,
    /// Where to read: the newest waiter's, whose login is the freshest.
    source: Option<Arc<Repository>>,
    finished: bool,
    idle_since: Option<Instant>,
}

struct Waiter {
    serial: u64,
    progress: ProgressSink,
    done: oneshot::Sender<Result<(), LayerFailure>>,
}

/// Why a layer did not come.
#[derive(Clone, Debug)]
pub(crate) enum LayerFailure {
    Fetch(Failure),
    /// Its bytes, or what became of them.
    Unpack(String),
}

impl LayerFailure {
    /// Whether going on later makes sense.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, LayerFailure::Fetch(failure) if failure.is_transient())
    }
}

/// One pull's interest in one download; dropping it ends that.
pub(crate) struct Wanted {
    download: Arc<Download>,
    serial: u64,
    done: oneshot::Receiver<Result<(), LayerFailure>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("waiters", &self.waiters.len()).field("finished", &self.finished).finish()
    }
}

impl Downloads {
    pub(crate) fn new(parallel: Option<usize>) -> Downloads {
        let count = parallel.unwrap_or(PARALLEL_DEFAULT).max(1);
        let slots = Slots { free: Arc::new(Semaphore::new(count)), count: Mutex::new(count) };
        Downloads { known: Mutex::default(), slots }
    }

    pub(crate) fn parallel(&self) -> usize {
        *lock(&self.slots.count)
    }

    /// Changes how many layers come at a time; what is on its way is not stopped.
    pub(crate) fn set_parallel(&self, parallel: Option<usize>) {
        let wanted = parallel.unwrap_or(PARALLEL_DEFAULT).max(1);
        let mut count = lock(&self.slots.count);
        if wanted > *count {
            self.slots.free.add_permits(wanted - *count);
        }
        let excess = count.saturating_sub(wanted);
        if excess > 0 {
            let free = self.slots.free.clone();
            tokio::spawn(async move {
                if let Ok(permits) = free.acquire_many(u32::try_from(excess).unwrap_or(u32::MAX)).await {
                    permits.forget();
                }
            });
        }
        *count = wanted;
    }

    /// Joins the download of a layer, or begins it.
    pub(crate) fn want(
        shared: &Arc<Shared>,
        (descriptor, diff_id): (&Descriptor, &str),
        source: &Arc<Repository>,
        progress: &ProgressSink,
    ) -> Result<Wanted, Error> {
        let key = (descriptor.digest.clone(), descriptor.size, diff_id.to_owned());
        let mut known = lock(&shared.downloads.known);
        let download = match known.get(&key) {
            Some(download) => download.clone(),
            None => {
                let download = Arc::new(Download {
                    key: key.clone(),
                    ingest: Ingest::begin(shared)?,
                    state: Mutex::default(),
                    wanted: watch::Sender::new(0),
                });
                known.insert(key, download.clone());
                tokio::spawn(task::Task::new(download.clone(), descriptor.clone(), shared.clone()).run());
                download
            }
        };
        // Under the lock of the map: a download that is about to be given up is not joined.
        Ok(join(download, source, progress))
    }

    /// Gives up what is kept of these layers: an image has them now, or they cannot become one.
    pub(crate) fn forget(&self, layers: &[(Descriptor, String)]) {
        let mut known = lock(&self.known);
        for (descriptor, diff_id) in layers {
            let key = (descriptor.digest.clone(), descriptor.size, diff_id.clone());
            let over = |d: &Arc<Download>| lock(&d.state).finished || *d.wanted.borrow() == 0;
            if known.get(&key).is_some_and(over)
                && let Some(download) = known.remove(&key)
            {
                download.wake();
            }
        }
    }

    /// Gives up everything that nobody waits for. Returns what tells whether all of it is off the disk: tasks and threads
    /// clear away what they have.
    pub(crate) fn forget_idle(&self) -> impl Fn() -> bool + use<> {
        let mut given_up: Vec<Weak<Download>> = Vec::new();
        lock(&self.known).retain(|_, download| {
            let idle = *download.wanted.borrow() == 0;
            if idle {
                given_up.push(Arc::downgrade(download));
                download.wake();
            }
            !idle
        });
        move || given_up.iter().all(|download| download.strong_count() == 0)
    }

    fn is_known(&self, download: &Download) -> bool {
        lock(&self.known).get(&download.key).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), download))
    }

    /// Removes it unless somebody joined meanwhile.
    fn give_up(&self, download: &Download) -> bool {
        let mut known = lock(&self.known);
        if *download.wanted.borrow() > 0 {
            return false;
        }
        known.remove(&download.key);
        true
    }

    /// Of too many paused downloads the oldest go.
    fn thin_out(&self) {
        let mut known = lock(&self.known);
        let mut paused: Vec<(Instant, Key)> = Vec::new();
        for download in known.values() {
            let state = lock(&download.state);
            if let (false, Some(since)) = (state.finished, state.idle_since) {
                paused.push((since, download.key.clone()));
            }
        }
        paused.sort_by_key(|(since, _)| *since);
        let excess = paused.len().saturating_sub(PAUSED_MAX);
        for (_, key) in paused.into_iter().take(excess) {
            if let Some(download) = known.remove(&key) {
                download.wake();
            }
        }
    }
}

fn join(download: Arc<Download>, source: &Arc<Repository>, progress: &ProgressSink) -> Wanted {
    let (done, receiver) = oneshot::channel();
    let mut state = lock(&download.state);
    state.serial += 1;
    let serial = state.serial;
    state.source = Some(source.clone());
    state.idle_since = None;
    if state.finished {
        // The receiver is in our hand.
        _ = done.send(Ok(()));
    } else {
        if let Some(last) = &state.last {
            progress(last.clone());
        }
        state.waiters.push(Waiter { serial, progress: progress.clone(), done });
    }
    drop(state);
    download.wanted.send_modify(|count| *count += 1);
    Wanted { download, serial, done: receiver }
}

impl Wanted {
    /// Waits until the layer is in the store, where it stays at least as long as this lives.
    pub(crate) async fn finished(&mut self) -> Result<(), LayerFailure> {
        match (&mut self.done).await {
            Ok(ended) => ended,
            Err(_) => Err(LayerFailure::Unpack("layer download was given up".to_owned())),
        }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut state = lock(&self.download.state);
        state.waiters.retain(|waiter| waiter.serial != self.serial);
        drop(state);
        self.download.wanted.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Download {
    fn tell(&self, progress: Progress) {
        let mut state = lock(&self.state);
        for waiter in &state.waiters {
            (waiter.progress)(progress.clone());
        }
        state.last = Some(progress);
    }

    fn say(&self, status: impl Into<String>) {
        self.tell(Progress::status(Some(digest::short(&self.key.0)), status));
    }

    fn answer(&self, ended: &Result<(), LayerFailure>) {
        for waiter in std::mem::take(&mut lock(&self.state).waiters) {
            // Gone meanwhile: nothing to tell.
            _ = waiter.done.send(ended.clone());
        }
    }

    /// Makes a paused task look whether it was given up.
    fn wake(&self) {
        self.wanted.send_modify(|_| {});
    }

    /// Waits until those who were told of a failure have left, or somebody new came.
    async fn settled(&self) {
        let has_waiters = || !lock(&self.state).waiters.is_empty();
        _ = self.wanted.subscribe().wait_for(|count| *count == 0 || has_waiters()).await;
    }

    async fn unwanted(&self) {
        // The sender is ours, so it is there.
        _ = self.wanted.subscribe().wait_for(|count| *count == 0).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed by whole assignments only: a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
