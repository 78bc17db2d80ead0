//! What is read from files that change while the server runs: read anew when they do, kept as it was when the new content is
//! wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A value read from some files.
pub(crate) struct Reread<T> {
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
}

/// What differs when a file was written or replaced.
type Stamp = (SystemTime, u64, u64);

impl<T> Reread<T> {
    /// Reads for the first time; what is wrong now is an error.
    pub(crate) fn new(
        paths: Vec<PathBuf>,
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Reread<T>, String> {
        // Taken before reading: a change in between is seen next time.
        let stamps = stamps(&paths);
        let state = State { value: Arc::new(read()?), stamps, looked: Instant::now() };
        Ok(Reread { paths, read: Box::new(read), state: Mutex::new(state) })
    }

    /// The value as the files have it now.
    pub(crate) fn get(&self) -> Arc<T> {
        // Nothing under it leaves the state half changed.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let stamps = stamps(&self.paths);
            if stamps != state.stamps {
                state.stamps = stamps;
                match (self.read)() {
                    Ok(value) => {
                        state.value = Arc::new(value);
                        tracing::info!("read again: {}", self.paths[0].display());
                    }
                    Err(text) => tracing::error!("{text}: what was read before stays"),
                }
            }
        }
        state.value.clone()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    use std::os::unix::fs::MetadataExt;
    let stamp = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len(), data.ino()))
    };
    paths.iter().map(stamp).collect()
}
