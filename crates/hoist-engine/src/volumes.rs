//! Volumes as the API shows them, and their events.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_api::filters::Filters;
use hoist_api::time::rfc3339_nano;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Result, Translate};
use crate::events::Events;

/// Filter keys of `GET /volumes`.
pub const VOLUME_FILTER_KEYS: [&str; 4] = ["dangling", "driver", "label", "name"];

/// Body of `POST /volumes/create`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeCreate {
    pub name: String,
    pub driver: String,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// A volume on the wire.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    pub created_at: String,
    pub driver: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub mountpoint: String,
    pub name: String,
    pub options: Option<BTreeMap<String, String>>,
    pub scope: String,
    /// Told by `system df` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// How much a volume is used.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsageData {
    /// Containers that hold it.
    pub ref_count: i64,
    /// Bytes; -1: not known.
    pub size: i64,
}

/// The handle on volumes. Clones share it.
#[derive(Clone, Debug)]
pub struct Volumes {
    context: Arc<Context>,
}

impl Volumes {
    pub(crate) fn new(context: Arc<Context>) -> Volumes {
        Volumes { context }
    }

    pub fn list(&self, filters: &Filters) -> Result<Vec<Volume>> {
        let dangling = filters.boolean("dangling")?;
        Ok(self
            .context
            .volumes
            .list()
            .into_iter()
            .filter(|v| {
                filters.any("name", |n| v.name.contains(n))
                    && filters.any("driver", |d| v.driver == d)
                    && filters.labels_match(&v.labels)
                    && dangling.is_none_or(|wanted| wanted == self.context.volumes.holders(&v.name).is_empty())
            })
            .map(on_wire)
            .collect())
    }

    pub fn inspect(&self, name: &str) -> Result<Volume> {
        self.context.volumes.get(name).api().map(on_wire)
    }

    pub fn create(&self, body: VolumeCreate) -> Result<Volume> {
        self.context.volumes.create(&body.name, &body.driver, body.driver_opts, body.labels).api().map(on_wire)
    }

    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        self.context.volumes.remove(name, force).api()
    }

    pub(crate) fn store(&self) -> &hoist_volume::Volumes {
        &self.context.volumes
    }

    pub(crate) fn tell_of_prune(&self, reclaimed_bytes: u64) {
        let reclaimed = [("reclaimed".to_owned(), reclaimed_bytes.to_string())];
        self.context.events.emit("volume", "prune", "", reclaimed.into());
    }
}

/// Puts a volume that came or went into the events, whatever made or removed it.
pub(crate) fn tell(events: &Events, change: hoist_volume::Change, name: &str) {
    let action = match change {
        hoist_volume::Change::Created => "create",
        hoist_volume::Change::Removed => "destroy",
    };
    events.emit("volume", action, name, BTreeMap::from([("driver".to_owned(), "local".to_owned())]));
}

fn on_wire(volume: hoist_volume::Volume) -> Volume {
    let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
    let mut labels = volume.labels;
    if volume.anonymous {
        labels.insert("com.docker.volume.anonymous".to_owned(), String::new());
    }
    Volume {
        created_at: rfc3339_nano(volume.created_ns / 1_000_000_000 * 1_000_000_000),
        driver: volume.driver,
        labels: some(labels),
        mountpoint: crate::merged::display(&volume.mountpoint),
        name: volume.name,
        options: some(volume.options),
        scope: "local".to_owned(),
        usage_data: None,
    }
}
