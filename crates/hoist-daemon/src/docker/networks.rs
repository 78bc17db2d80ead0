//! `/networks` and `/volumes`, as far as they go today.

use hoist_api::error::Error;
use hoist_api::filters::Filters;
use hoist_engine::{NETWORK_FILTER_KEYS, VOLUME_FILTER_KEYS, VolumeCreate};
use hyper::StatusCode;
use serde_json::json;

use super::Call;
use super::answer::{self, Answer, no_content};

pub(super) fn list(call: &Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &NETWORK_FILTER_KEYS)?;
    answer::ok(&call.engine.networks.list(&filters))
}

pub(super) fn inspect(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.networks.inspect(&call.name)?)
}

pub(super) fn volume_list(call: &Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &VOLUME_FILTER_KEYS)?;
    let volumes = call.engine.volumes.list(&filters)?;
    answer::ok(&json!({"Volumes": volumes, "Warnings": null}))
}

pub(super) fn volume_inspect(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.volumes.inspect(&call.name)?)
}

pub(super) async fn volume_create(mut call: Call) -> Result<Answer, Error> {
    let body: VolumeCreate = call.json().await?;
    answer::json(StatusCode::CREATED, &call.engine.volumes.create(body)?)
}

pub(super) fn volume_remove(call: &Call) -> Result<Answer, Error> {
    call.engine.volumes.remove(&call.name, call.query.flag("force"))?;
    Ok(no_content())
}
