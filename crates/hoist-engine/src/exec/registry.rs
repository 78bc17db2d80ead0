//! The books of execs: all that run or may run, and for a while those that have ended, even where their container is gone
//! by then. A client asks for the exit code after the output, and the container may be removed between the two.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hoist_api::exec::ExecCreate;
use oci_spec::runtime::Process;
use tokio::sync::watch;

use crate::error::{Error, Result};

/// How long one that has ended is remembered; Docker forgets it between five and ten minutes after its end.
const REMEMBERED: Duration = Duration::from_mins(5);
/// How many that have ended are remembered at most, and what their commands may take in all, in bytes: the oldest go first.
const MAX_ENDED: usize = 4096;
const MAX_ENDED_BYTES: usize = 8 * 1024 * 1024;
/// So many of the last are remembered however long their commands are.
const MIN_ENDED: usize = 64;

/// All execs of an engine.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    entries: HashMap<String, Arc<Entry>>,
    /// In the order of their ends.
    ended: VecDeque<Ended>,
    /// What the commands of these take.
    ended_bytes: usize,
}

#[derive(Debug)]
struct Ended {
    at: Instant,
    id: String,
    bytes: usize,
}

/// One exec.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) container_id: String,
    /// Without the environment, which the process has.
    pub(super) request: ExecCreate,
    /// Until it is started.
    process: Mutex<Option<Process>>,
    pub(super) state: watch::Sender<ExecState>,
}

/// Where an exec is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ExecState {
    pub(super) running: bool,
    pub(super) pid: i32,
    pub(super) exit_code: Option<i32>,
}

impl Entry {
    pub(super) fn new(container_id: String, mut request: ExecCreate, process: Process) -> Entry {
        request.env = Vec::new();
        Entry { container_id, request, process: Mutex::new(Some(process)), state: watch::Sender::default() }
    }

    /// What is to be started; `None` if it was taken before.
    pub(super) fn take_process(&self) -> Option<Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn command_bytes(&self) -> usize {
        self.request.cmd.iter().flatten().map(String::len).sum()
    }

    fn was_started(&self) -> bool {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: &str) -> Result<Arc<Entry>> {
        self.lock().entries.get(id).cloned().ok_or_else(|| Error::no_such_exec(id))
    }

    pub(super) fn add(&self, id: String, entry: Entry) {
        let mut books = self.lock();
        books.forget_old(Instant::now());
        books.entries.insert(id, Arc::new(entry));
    }

    /// Notes how it ended, unless that is known.
    pub(super) fn ended(&self, id: &str, entry: &Entry, exit_code: i32) {
        let is_news = entry.state.send_if_modified(|state| {
            state.running = false;
            let is_news = state.exit_code.is_none();
            state.exit_code.get_or_insert(exit_code);
            is_news
        });
        if is_news {
            let (mut books, at, bytes) = (self.lock(), Instant::now(), entry.command_bytes());
            books.ended.push_back(Ended { at, id: id.to_owned(), bytes });
            books.ended_bytes += bytes;
            books.forget_old(at);
        }
    }

    /// Ids of a container's running execs.
    pub(crate) fn of_container(&self, container_id: &str) -> Vec<String> {
        let is_wanted = |entry: &Entry| entry.container_id == container_id && entry.state.borrow().running;
        self.lock().entries.iter().filter(|(_, entry)| is_wanted(entry)).map(|(id, _)| id.clone()).collect()
    }

    /// The container is gone: so is what was never started in it. What was has ended with it, or is about to.
    pub(crate) fn forget_container(&self, container_id: &str) {
        self.lock().entries.retain(|_, entry| entry.container_id != container_id || entry.was_started());
    }
}

impl Books {
    fn forget_old(&mut self, now: Instant) {
        while let Some(oldest) = self.ended.front()
            && (self.are_too_many() || now.duration_since(oldest.at) > REMEMBERED)
        {
            if let Some(Ended { id, bytes, .. }) = self.ended.pop_front() {
                self.entries.remove(&id);
                self.ended_bytes -= bytes;
            }
        }
    }

    fn are_too_many(&self) -> bool {
        self.ended.len() > MAX_ENDED || (self.ended.len() > MIN_ENDED && self.ended_bytes > MAX_ENDED_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(container: &str) -> Entry {
        Entry::new(container.to_owned(), ExecCreate::default(), Process::default())
    }

    fn add(registry: &Registry, id: &str, container: &str) -> Arc<Entry> {
        registry.add(id.to_owned(), entry(container));
        registry.get(id).unwrap()
    }

    #[test]
    fn the_exit_code_outlives_the_container_for_a_while() {
        let registry = Registry::default();
        add(&registry, "unstarted", "c");
        let started = add(&registry, "started", "c");
        assert!(started.take_process().is_some() && started.take_process().is_none());
        registry.forget_container("c");
        assert!(registry.get("unstarted").is_err());
        registry.ended("started", &started, 137);
        registry.ended("started", &started, 0);
        assert_eq!(registry.get("started").unwrap().state.borrow().exit_code, Some(137));

        registry.lock().forget_old(Instant::now() + REMEMBERED + Duration::from_secs(1));
        assert!(registry.get("started").is_err());
        let books = registry.lock();
        assert!(books.ended.is_empty() && books.entries.is_empty() && books.ended_bytes == 0);
    }

    #[test]
    fn of_very_many_that_ended_the_last_are_remembered() {
        let registry = Registry::default();
        let running = add(&registry, "running", "c");
        for number in 0..=MAX_ENDED {
            let id = number.to_string();
            registry.ended(&id, &add(&registry, &id, "c"), 0);
        }
        assert!(
            registry.get("0").is_err() && registry.get("1").is_ok() && registry.get(&MAX_ENDED.to_string()).is_ok()
        );
        running.state.send_modify(|state| state.running = true);
        assert_eq!(registry.of_container("c"), ["running"]);
    }

    #[test]
    fn of_those_with_long_commands_fewer_are_remembered() {
        let registry = Registry::default();
        for number in 0..100 {
            let id = number.to_string();
            let request = ExecCreate { cmd: Some(vec!["x".repeat(MAX_ENDED_BYTES / 8)]), ..ExecCreate::default() };
            registry.add(id.clone(), Entry::new("c".to_owned(), request, Process::default()));
            registry.ended(&id, &registry.get(&id).unwrap(), 0);
        }
        assert_eq!(registry.lock().ended.len(), MIN_ENDED);
        assert!(registry.get("99").is_ok());
    }
}
