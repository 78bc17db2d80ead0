//! Work leaves free memory in the heap that the allocator keeps. Once it has been quiet for a while, that goes back to the
//! kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// So long nobody asked for anything.
const QUIET: Duration = Duration::from_secs(10);

/// Notices what is asked of the engine. Costs two atomic operations each time, and nothing while nothing is asked.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    count: AtomicU64,
    is_noticed: AtomicBool,
    first: Notify,
}

impl Activity {
    /// Something was asked for, or came to its end.
    pub(crate) fn mark(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if !self.is_noticed.swap(true, Ordering::Relaxed) {
            self.first.notify_one();
        }
    }

    /// Returns when there was work since the last time, and none for the length of `quiet`.
    async fn settled(&self, quiet: Duration) {
        self.first.notified().await;
        let mut seen = None;
        loop {
            let count = self.count.load(Ordering::Relaxed);
            if seen.replace(count) == Some(count) {
                break;
            }
            tokio::time::sleep(quiet).await;
        }
        self.is_noticed.store(false, Ordering::Relaxed);
    }
}

/// Gives memory back whenever it has become quiet; never returns.
pub(crate) async fn give_memory_back(activity: Arc<Activity>) {
    loop {
        activity.settled(QUIET).await;
        // Other threads wait for memory meanwhile: some milliseconds after the largest bursts, when nobody asks.
        _ = tokio::task::spawn_blocking(hoist_sys::process::trim_heap).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn quiet_comes_after_the_last_of_the_work_and_only_after_work() {
        let activity = Arc::new(Activity::default());
        let never = tokio::time::timeout(SHORT * 10, activity.settled(SHORT));
        assert!(never.await.is_err(), "without work");

        let working = activity.clone();
        let work = tokio::spawn(async move {
            for _ in 0..10 {
                working.mark();
                tokio::time::sleep(SHORT / 2).await;
            }
        });
        let before = tokio::time::Instant::now();
        activity.settled(SHORT).await;
        assert!(work.is_finished() && before.elapsed() >= SHORT * 5, "{:?}", before.elapsed());

        let never = tokio::time::timeout(SHORT * 10, activity.settled(SHORT));
        assert!(never.await.is_err(), "without more work");
    }
}
