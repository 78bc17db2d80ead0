//! Giving back what nobody needs: blobs without a manifest, once a push that might want them has had its time.

use std::sync::Arc;
use std::time::Duration;

use super::{Store, records};
use crate::error::Error;
use crate::now_ns;

/// Blobs removed at a time: pushes wait meanwhile.
const BATCH: u32 = 100;
/// Looked at this often even if nothing was deleted: time passes.
const EVERY: Duration = Duration::from_secs(600);
/// Many deletes in a row are one reason to look.
const PAUSE: Duration = Duration::from_secs(1);

impl Store {
    /// Collects for ever.
    pub(crate) async fn keep_collecting(self: Arc<Store>) {
        // Where blobs are kept for seconds, that is how often they are looked at.
        let every = EVERY.min(self.keep_unreferenced).max(PAUSE);
        loop {
            let collected = self.run(|store| store.uploads.expire().and_then(|()| store.collect())).await;
            match collected {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "blobs removed that no manifest needs"),
                Err(e) => tracing::error!("cannot collect garbage: {}", e.cause.unwrap_or(e.message)),
            }
            tokio::time::sleep(PAUSE).await;
            // Whichever comes first.
            _ = tokio::time::timeout(every, self.garbage.notified()).await;
        }
    }

    /// Removes what no manifest needs; returns how many blobs.
    pub(super) fn collect(&self) -> Result<usize, Error> {
        let keep_ns = i64::try_from(self.keep_unreferenced.as_nanos()).unwrap_or(i64::MAX);
        let mut removed = 0;
        loop {
            let _serial = self.commit_lock();
            let before_ns = now_ns().saturating_sub(keep_ns);
            let digests = self.db.write_durable(|tx| records::drop_garbage(tx, before_ns, BATCH))?;
            for digest in &digests {
                self.blobs.remove(digest)?;
            }
            if digests.is_empty() {
                return Ok(removed);
            }
            removed += digests.len();
        }
    }
}
