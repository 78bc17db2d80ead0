//! `GET /system/df`, and what is pruned besides containers and images.

use std::collections::HashSet;
use std::sync::Arc;

use hoist_api::error::Error;
use hoist_api::filters::Filters;
use hoist_engine::{Engine, Usage, UsageKind};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Call;
use super::answer::{self, Answer};
use super::containers::blocking;

pub(super) async fn df(call: &Call) -> Result<Answer, Error> {
    let words = call.query.all("type");
    let kinds: Vec<UsageKind> = match words.is_empty() {
        true => UsageKind::ALL.into(),
        false => words.iter().map(|word| UsageKind::parse(word)).collect::<Result<_, _>>()?,
    };
    let engine = call.engine.clone();
    let forms = Forms::of(call);
    answer::ok(&blocking(move || usage(&engine, &kinds, forms)).await?)
}

/// `GET /hoist/system/disk`
pub(super) async fn breakdown(call: &Call) -> Result<Answer, Error> {
    let engine = call.engine.clone();
    answer::ok(&blocking(move || engine.disk_usage()).await?)
}

/// Which of its two forms an answer has.
#[derive(Clone, Copy)]
struct Forms {
    /// A list for each kind.
    old: bool,
    /// Counts and sizes for each kind.
    new: bool,
    /// The lists in the new form.
    verbose: bool,
}

impl Forms {
    fn of(call: &Call) -> Forms {
        let new = call.version.tells_usage_by_kind();
        let verbose = new && call.query.flag("verbose");
        Forms { old: !verbose, new, verbose }
    }
}

fn usage(engine: &Arc<Engine>, kinds: &[UsageKind], forms: Forms) -> Result<Value, Error> {
    let mut answer = Map::new();
    if forms.old {
        answer.insert("LayersSize".to_owned(), 0.into());
        for key in ["Images", "Containers", "Volumes", "BuildCache"] {
            answer.insert(key.to_owned(), Value::Null);
        }
    }
    let mut seen = HashSet::new();
    for kind in kinds.iter().filter(|kind| seen.insert(format!("{kind:?}"))) {
        match kind {
            UsageKind::Images => {
                let usage = engine.image_usage()?;
                if forms.old {
                    answer.insert("LayersSize".to_owned(), usage.total_size.into());
                }
                put(&mut answer, ("Images", "ImageUsage"), &usage, forms)?;
            }
            UsageKind::Containers => {
                put(&mut answer, ("Containers", "ContainerUsage"), &engine.container_usage()?, forms)?;
            }
            UsageKind::Volumes => put(&mut answer, ("Volumes", "VolumeUsage"), &engine.volume_usage()?, forms)?,
            // nothing is built here yet, so nothing is kept of it
            UsageKind::BuildCache => {
                let none: Usage<Value> =
                    Usage { active_count: 0, total_count: 0, reclaimable: 0, total_size: 0, items: Vec::new() };
                put(&mut answer, ("BuildCache", "BuildCacheUsage"), &none, forms)?;
            }
        }
    }
    Ok(answer.into())
}

fn put<T: Serialize>(
    answer: &mut Map<String, Value>,
    (old, new): (&str, &str),
    usage: &Usage<T>,
    forms: Forms,
) -> Result<(), Error> {
    let mut value = serde_json::to_value(usage).map_err(|e| Error::internal(e.to_string()))?;
    if forms.old {
        answer.insert(old.to_owned(), value["Items"].clone());
    }
    if !forms.verbose
        && let Some(object) = value.as_object_mut()
    {
        object.remove("Items");
    }
    if forms.new {
        answer.insert(new.to_owned(), value);
    }
    Ok(())
}

/// `POST /volumes/prune`. Before version 1.42 those with a name went too.
pub(super) async fn prune_volumes(call: &Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &["all", "label", "label!"])?;
    let (engine, all) = (call.engine.clone(), !call.version.keeps_named_volumes());
    answer::ok(&blocking(move || engine.volumes.prune(&filters, all)).await?)
}

/// `POST /networks/prune`: every network here is one that stays.
pub(super) fn prune_networks(call: &Call) -> Result<Answer, Error> {
    Filters::parse(call.query.get("filters"), &["label", "label!", "until"])?;
    answer::ok(&json!({ "NetworksDeleted": null }))
}

/// `POST /build/prune`: nothing is built here yet, so there is no cache.
pub(super) fn prune_build_cache() -> Result<Answer, Error> {
    answer::ok(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
}
