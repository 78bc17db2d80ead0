//! What decides how long an image stays and whether it may be used: last use, pins, vouchers, and what layers take on disk.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::Index;
use crate::budget::{Candidate, Holdings};
use crate::records::Voucher;

/// A use is written down when the one that is written down is older.
const USE_RECORDED_EVERY_NS: i64 = 60 * 1_000_000_000;

impl Index {
    /// Notes that an image is used; whether that is to be written down.
    pub(crate) fn touch(&self, id: &str, now_ns: i64) -> bool {
        let Some(entry) = self.images.get(id) else { return false };
        entry.used_ns.fetch_max(now_ns, Ordering::Relaxed);
        let recorded_ns = entry.used_recorded_ns.load(Ordering::Relaxed);
        let is_due = now_ns.saturating_sub(recorded_ns) >= USE_RECORDED_EVERY_NS;
        // Of many at once one writes.
        let exchanged =
            || entry.used_recorded_ns.compare_exchange(recorded_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        is_due && exchanged().is_ok()
    }

    pub(crate) fn used_ns(&self, id: &str) -> i64 {
        self.images.get(id).map_or(0, |entry| entry.used_ns.load(Ordering::Relaxed))
    }

    /// Pins a name or an id that is here.
    pub(crate) fn put_pin(&mut self, pinned: &str) {
        self.pins.insert(pinned.to_owned());
        self.refresh_pinned(pinned);
    }

    pub(crate) fn drop_pin(&mut self, pinned: &str) {
        self.pins.remove(pinned);
        self.refresh_pinned(pinned);
    }

    fn refresh_pinned(&mut self, pinned: &str) {
        let id = self.names.get(pinned).cloned().unwrap_or_else(|| pinned.to_owned());
        self.refresh(&id);
    }

    /// What keeps an image: its id, its names, or some of both.
    pub(crate) fn pins_of(&self, id: &str) -> Vec<String> {
        let Some(entry) = self.images.get(id) else { return Vec::new() };
        let id = std::iter::once(&entry.record.id);
        id.chain(entry.names()).filter(|pinned| self.pins.contains(*pinned)).cloned().collect()
    }

    pub(crate) fn put_voucher(&mut self, id: &str, voucher: Voucher) {
        if let Some(entry) = self.images.get_mut(id)
            && !entry.vouchers.contains(&voucher)
        {
            entry.vouchers.push(voucher);
        }
    }

    /// Whether this engine made the image, as far as is known.
    pub(crate) fn is_made_here(&self, id: &str) -> bool {
        self.images.get(id).is_some_and(|entry| entry.record.made_here)
    }

    pub(crate) fn vouchers(&self, id: &str) -> &[Voucher] {
        self.images.get(id).map_or(&[], |entry| &entry.vouchers)
    }

    pub(crate) fn set_disk_bytes(&mut self, diff_id: &str, bytes: Option<u64>) {
        if let Some(layer) = self.layers.get_mut(diff_id) {
            layer.disk_bytes = bytes;
        }
    }

    /// Layers that were not measured yet.
    pub(crate) fn unmeasured(&self) -> Vec<String> {
        self.layers.iter().filter(|(_, layer)| layer.disk_bytes.is_none()).map(|(id, _)| id.clone()).collect()
    }

    /// What all layers take on disk.
    pub(crate) fn layers_disk_bytes(&self) -> u64 {
        self.layers.values().filter_map(|layer| layer.disk_bytes).fold(0, u64::saturating_add)
    }

    /// What there is to choose from when space is wanted.
    pub(crate) fn holdings(&self) -> Holdings {
        let mut children: HashMap<&str, usize> = HashMap::new();
        for parent in self.images.values().filter_map(|entry| entry.record.parent.as_deref()) {
            *children.entry(parent).or_default() += 1;
        }
        let candidates = self.images.values().map(|entry| Candidate {
            id: entry.record.id.clone(),
            name: entry.image.repo_tags.first().cloned().unwrap_or_else(|| entry.record.id.clone()),
            parent: entry.record.parent.clone(),
            used_ns: entry.used_ns.load(Ordering::Relaxed),
            is_pinned: entry.image.is_pinned,
            children: children.get(entry.record.id.as_str()).copied().unwrap_or(0),
            layers: entry.record.diff_ids.clone(),
        });
        let layers = self.layers.iter().map(|(id, layer)| (id.clone(), (layer.disk_bytes.unwrap_or(0), layer.users)));
        Holdings { candidates: candidates.collect(), layers: layers.collect() }
    }
}
