//! What the engine keeps on disk, by kind (`system df`), and the removal of volumes nobody uses. Sizes are looked up while
//! others go on: no lock is held.

use std::collections::HashMap;

use hoist_api::container::Summary as ContainerSummary;
use hoist_api::filters::Filters;
use hoist_api::image::Summary as ImageSummary;
use serde::Serialize;

use crate::archive;
use crate::containers::ListOptions;
use crate::engine::Engine;
use crate::error::{Error, Result, Translate};
use crate::volumes::{UsageData, Volume, Volumes};

/// Kinds of objects that take space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageKind {
    Images,
    Containers,
    Volumes,
    BuildCache,
}

impl UsageKind {
    pub const ALL: [UsageKind; 4] =
        [UsageKind::Images, UsageKind::Containers, UsageKind::Volumes, UsageKind::BuildCache];

    /// By the word of the API.
    pub fn parse(word: &str) -> Result<UsageKind> {
        match word {
            "image" => Ok(UsageKind::Images),
            "container" => Ok(UsageKind::Containers),
            "volume" => Ok(UsageKind::Volumes),
            "build-cache" => Ok(UsageKind::BuildCache),
            other => Err(Error::invalid(format!("unknown object type: {other}"))),
        }
    }
}

/// What of one kind there is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Usage<T> {
    /// How many are in use.
    pub active_count: i64,
    pub total_count: i64,
    /// Bytes that would be free without those that are not in use.
    pub reclaimable: i64,
    /// Bytes of all, what they share once.
    pub total_size: i64,
    pub items: Vec<T>,
}

impl Engine {
    /// Images and what their layers take. Blocking.
    pub fn image_usage(&self) -> Result<Usage<ImageSummary>> {
        let items = self.images.list_with_shares(&Filters::default(), false)?;
        let total_size = signed(self.images.layers_size_bytes());
        let used: i64 = items.iter().filter(|i| i.containers > 0).map(|i| signed(i.size) - i.shared_size).sum();
        Ok(Usage {
            active_count: count(&items, |image| image.containers > 0),
            total_count: count(&items, |_| true),
            reclaimable: total_size - used,
            total_size,
            items,
        })
    }

    /// Containers and what they changed. Blocking.
    pub fn container_usage(&self) -> Result<Usage<ContainerSummary>> {
        let items = self.containers.list(&ListOptions { all: true, size: true, ..ListOptions::default() })?;
        let is_active = |c: &ContainerSummary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
        let size = |c: &ContainerSummary| c.size_rw.unwrap_or(0);
        Ok(Usage {
            active_count: count(&items, is_active),
            total_count: count(&items, |_| true),
            reclaimable: items.iter().filter(|c| !is_active(c)).map(size).sum(),
            total_size: items.iter().map(size).sum(),
            items,
        })
    }

    /// Volumes and what is in them. Blocking.
    pub fn volume_usage(&self) -> Result<Usage<Volume>> {
        let items = self.volumes.list_with_usage()?;
        let usage = |volume: &Volume| volume.usage_data.unwrap_or(UsageData { ref_count: -1, size: -1 });
        let sizes = |wanted: &dyn Fn(&UsageData) -> bool| -> i64 {
            items.iter().map(usage).filter(wanted).map(|usage| usage.size.max(0)).sum()
        };
        Ok(Usage {
            active_count: count(&items, |volume| usage(volume).ref_count > 0),
            total_count: count(&items, |_| true),
            reclaimable: sizes(&|usage| usage.ref_count == 0),
            total_size: sizes(&|_| true),
            items,
        })
    }
}

fn count<T>(items: &[T], wanted: impl Fn(&T) -> bool) -> i64 {
    i64::try_from(items.iter().filter(|item| wanted(item)).count()).unwrap_or(i64::MAX)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Bytes of each image that others have too, by the layers of all.
pub(crate) fn shared_bytes(images: &[Vec<(String, u64)>]) -> Vec<u64> {
    let mut users: HashMap<&str, u32> = HashMap::new();
    for layers in images {
        let mut own: Vec<&str> = layers.iter().map(|(id, _)| id.as_str()).collect();
        own.sort_unstable();
        own.dedup();
        own.into_iter().for_each(|id| *users.entry(id).or_default() += 1);
    }
    let is_shared = |id: &str| users.get(id).is_some_and(|&count| count > 1);
    images.iter().map(|layers| layers.iter().filter(|(id, _)| is_shared(id)).map(|(_, size)| size).sum()).collect()
}

/// Answer of `POST /volumes/prune`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumePruneReport {
    pub volumes_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

impl Volumes {
    fn list_with_usage(&self) -> Result<Vec<Volume>> {
        let mut volumes = self.list(&Filters::default())?;
        for volume in &mut volumes {
            let holders = self.store().holders(&volume.name).len();
            let size = self.size_bytes(&volume.name).map_or(-1, signed);
            volume.usage_data = Some(UsageData { ref_count: i64::try_from(holders).unwrap_or(i64::MAX), size });
        }
        Ok(volumes)
    }

    /// Bytes of the files in a volume; `None` for one that is a mount, whose size is not ours to tell.
    fn size_bytes(&self, name: &str) -> Option<u64> {
        let volume = self.store().get(name).ok()?;
        if volume.mount_spec().is_some() {
            return None;
        }
        match archive::size_bytes(&volume.mountpoint) {
            Ok(size) => Some(size),
            Err(e) => {
                tracing::warn!("cannot tell the size of volume {name}: {e}");
                None
            }
        }
    }

    /// Removes the volumes nobody holds: those without a name, or with `all` every one. Blocking.
    pub fn prune(&self, filters: &Filters, all: bool) -> Result<VolumePruneReport> {
        let all = filters.boolean("all")?.unwrap_or(all);
        let mut report = VolumePruneReport::default();
        for volume in self.store().list() {
            let unused = self.store().holders(&volume.name).is_empty();
            if !unused || !(all || volume.anonymous) || !filters.labels_match(&volume.labels) {
                continue;
            }
            let size = self.size_bytes(&volume.name).unwrap_or(0);
            match self.store().remove(&volume.name, false) {
                Ok(()) => {}
                // taken or removed in between
                Err(hoist_volume::Error::InUse { .. } | hoist_volume::Error::NotFound(_)) => continue,
                Err(e) => return Err(e).api(),
            }
            report.volumes_deleted.push(volume.name);
            report.space_reclaimed += size;
        }
        self.tell_of_prune(report.space_reclaimed);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_images_have_is_shared_and_counted_once_for_each() {
        let layer = |id: &str, size| (id.to_owned(), size);
        let images = [
            vec![layer("base", 100), layer("a", 1), layer("a", 1)],
            vec![layer("base", 100), layer("b", 20)],
            vec![layer("alone", 7)],
        ];
        assert_eq!(shared_bytes(&images), [100, 100, 0]);
        assert!(shared_bytes(&[]).is_empty());
    }

    #[test]
    fn kinds_have_the_words_of_the_api() {
        for (word, kind) in ["image", "container", "volume", "build-cache"].into_iter().zip(UsageKind::ALL) {
            assert_eq!(UsageKind::parse(word).unwrap(), kind);
        }
        assert_eq!(UsageKind::parse("foo").unwrap_err().message, "unknown object type: foo");
    }
}
