//! `--max-disk`: what goes when images take more of the disk than they may, who hears of it, and who is warned when nothing
//! can go. Which images that are is the store's choice.

use std::collections::HashSet;
use std::sync::PoisonError;

use hoist_api::time::now_ns;
use hoist_image::Force;

use crate::containers::Containers;
use crate::disk::Space;
use crate::error::{Result, Translate, io};
use crate::images::Images;
use crate::settings::MaxDisk;

/// What is told with each removal.
const REASON: &str = "max-disk";

impl Images {
    /// After images came in: they are measured, and others go if all together are too much. What was used since `since_ns`
    /// stays: it was what somebody asked for. Blocking.
    pub(crate) fn settle(&self, since_ns: i64) {
        if self.containers().context().settings.live.now().max_disk.is_none() {
            // Nobody waits for the figures.
            let store = self.store().clone();
            tokio::task::spawn_blocking(move || {
                if let Err(e) = store.measure_layers() {
                    tracing::debug!("layers are not measured: {e}");
                }
            });
            return;
        }
        if let Err(e) = self.keep_to_budget(since_ns) {
            tracing::warn!("what images take on disk is not known: {e}");
        }
    }

    /// The same for a task that must not block.
    pub(crate) async fn settle_after(&self, begun_ns: i64) {
        let images = self.clone();
        if let Err(e) = tokio::task::spawn_blocking(move || images.settle(begun_ns)).await {
            tracing::warn!("looking after images failed: {e}");
        }
    }

    /// The same in the background.
    pub(crate) fn settle_soon(&self) {
        let images = self.clone();
        tokio::task::spawn_blocking(move || images.settle(now_ns()));
    }

    fn keep_to_budget(&self, since_ns: i64) -> Result<()> {
        let context = self.containers().context();
        let Some(limit) = context.settings.live.now().max_disk else { return Ok(()) };
        // One after the other: two would choose the same images, and each others on top.
        let _one = context.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let max_bytes = match limit {
            MaxDisk::Bytes(bytes) => bytes,
            MaxDisk::Percent(percent) => {
                let root = &context.settings.root;
                Space::of(root).map_err(io("measure", root))?.total_bytes / 100 * u64::from(percent)
            }
        };
        let mut disk = self.store().disk_bytes().api()?;
        if disk.images() > max_bytes {
            // What nobody waits for any more goes before what somebody may want.
            self.store().forget_interrupted();
            disk = self.store().disk_bytes().api()?;
        }
        let excess = disk.images().saturating_sub(max_bytes);
        if excess == 0 {
            return Ok(());
        }
        let spared: HashSet<String> = self
            .store()
            .list()
            .iter()
            .filter(|image| self.store().last_used_ns(image) >= since_ns)
            .map(|image| image.id.clone())
            .collect();
        let used = self.users().into_keys().collect();
        let choice = self.store().choose(excess, &used, &spared);
        for id in &choice.image_ids {
            self.remove_for_budget(id);
        }
        if choice.missing_bytes > 0 {
            let held = choice.holders.iter().map(|(name, bytes, why)| format!("{name} ({bytes} bytes, {why})"));
            let held: Vec<String> = held.collect();
            tracing::warn!(
                max_bytes,
                over_bytes = choice.missing_bytes,
                layers_bytes = disk.layers,
                documents_bytes = disk.documents,
                in_progress_bytes = disk.in_progress,
                "images take more of the disk than --max-disk and no more can go; the largest that stay: {}",
                if held.is_empty() { "none".to_owned() } else { held.join(", ") }
            );
        }
        Ok(())
    }

    fn remove_for_budget(&self, id: &str) {
        let Ok(image) = self.store().get(id) else { return };
        let removed = self.store().remove(id, Force::SparingPins, true, &|image| self.any_users(image));
        match removed {
            Ok(removed) => {
                let removed = self.report(&image, removed, Some(REASON));
                tracing::info!(image = id, ?removed, "removed: images take more of the disk than --max-disk");
            }
            // Gone, taken or pinned meanwhile.
            Err(e) => tracing::debug!(image = id, "not removed for --max-disk: {e}"),
        }
    }
}

impl Containers {
    /// [`Images::settle`] for images that are made of containers.
    pub(crate) fn settle_images(&self, since_ns: i64) {
        Images::new(self.clone()).settle(since_ns);
    }
}
