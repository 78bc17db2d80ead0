//! `/images/…`: what is here. `create` brings images in from registries and tars, `push` takes them to registries,
//! `archive` loads and saves, `verify` checks, `pin` keeps, `manifest` has what is Hoist's own about manifests and
//! differences; `progress` is the stream that all of these answer with.

mod archive;
mod create;
mod manifest;
mod pin;
mod progress;
mod push;
mod verify;

use hoist_api::error::Error;
use hoist_api::filters::Filters;
use hoist_engine::IMAGE_FILTER_KEYS;
use hoist_image::Platform;
use hyper::StatusCode;

use super::Call;
use super::answer::{self, Answer};
use super::containers::blocking;

pub(super) use archive::{load, save};
pub(super) use create::{create, pull_trusted};
pub(super) use manifest::{changes, manifests, put_manifest};
pub(super) use pin::{pin, unpin};
pub(super) use push::credentials;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use push::keyring;
pub(super) use push::{distribution, login, push};
pub(super) use verify::verify;

pub(super) async fn list(call: &Call) -> Result<Answer, Error> {
    let mut filters = Filters::parse(call.query.get("filters"), &IMAGE_FILTER_KEYS)?;
    if call.version.lists_by_name() && !call.query.get("filter").is_empty() {
        filters.add("reference", call.query.get("filter"));
    }
    let all = call.query.flag("all");
    let mut images = match call.query.flag("shared-size") {
        true => call.engine.images.list_with_shares(&filters, all)?,
        false => call.engine.images.list(&filters, all)?,
    };
    if call.version.lists_manifests() && call.query.flag("manifests") {
        let store = call.engine.images.clone();
        images = blocking(move || store.add_manifests(&mut images).map(|()| images)).await?;
    }
    let mut value = serde_json::to_value(images).map_err(|e| Error::internal(e.to_string()))?;
    value.as_array_mut().into_iter().flatten().for_each(|item| call.version.image_summary(item));
    answer::ok(&value)
}

pub(super) async fn inspect(call: &Call) -> Result<Answer, Error> {
    let platform = one_platform(call)?;
    let with_manifests = call.version.inspects_manifests() && call.query.flag("manifests");
    if with_manifests && platform.is_some() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let mut found = call.engine.images.inspect(&call.name, platform.as_ref())?;
    if with_manifests {
        let store = call.engine.images.clone();
        found = blocking(move || store.add_manifests_to(&mut found).map(|()| found)).await?;
    }
    let mut value = serde_json::to_value(found).map_err(|e| Error::internal(e.to_string()))?;
    call.version.image(&mut value);
    if call.version.tells_of_making() {
        let (container, config) = call.engine.images.made_of(&call.name)?;
        if !container.is_empty() {
            value["Container"] = container.into();
        }
        value["ContainerConfig"] = serde_json::to_value(config).map_err(|e| Error::internal(e.to_string()))?;
    }
    answer::ok(&value)
}

pub(super) fn history(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.images.history(&call.name, one_platform(call)?.as_ref())?)
}

pub(super) fn tag(call: &Call) -> Result<Answer, Error> {
    if call.query.get("repo").is_empty() {
        // Nothing is asked for, and dockerd does not even look at the image.
        return Ok(answer::status(StatusCode::OK));
    }
    call.engine.images.tag(&call.name, call.query.get("repo"), call.query.get("tag"))?;
    Ok(answer::status(StatusCode::CREATED))
}

pub(super) async fn remove(call: &Call) -> Result<Answer, Error> {
    let (images, name) = (call.engine.images.clone(), call.name.clone());
    for platform in platforms(&call.query.all("platforms"))? {
        images.inspect(&name, Some(&platform))?;
    }
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    answer::ok(&blocking(move || images.remove(&name, force, no_prune)).await?)
}

pub(super) async fn prune(call: &Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &["dangling", "label", "label!", "until", "unused-for"])?;
    let images = call.engine.images.clone();
    answer::ok(&blocking(move || images.prune(&filters)).await?)
}

/// `os/arch[/variant]`
fn platform(text: &str) -> Result<Option<Platform>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let platform = Platform::parse(text).map_err(Error::invalid)?;
    if platform.os == "linux" { Ok(Some(platform)) } else { Err(Error::invalid("operating system is not supported")) }
}

/// The platform of a request that may name one.
fn one_platform(call: &Call) -> Result<Option<Platform>, Error> {
    Ok(platforms(&call.query.all("platform"))?.into_iter().next())
}

/// The JSON objects that newer requests name platforms by; empty ones name none.
fn platforms(values: &[String]) -> Result<Vec<Platform>, Error> {
    let given = values.iter().filter(|text| !text.is_empty());
    given
        .map(|text| {
            let parsed: Platform = hoist_api::decode::from_slice(text.as_bytes())
                .map_err(|e| Error::invalid(format!("failed to parse platform: {e}")))?;
            if parsed.os.is_empty() || parsed.architecture.is_empty() {
                return Err(Error::invalid("both OS and Architecture must be provided"));
            }
            Ok(parsed)
        })
        .collect()
}
