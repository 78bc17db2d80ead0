//! `POST /commit`

use hoist_api::error::Error;
use hoist_api::reference::Reference;
use hoist_engine::CommitRequest;
use hyper::StatusCode;
use serde_json::json;

use super::Call;
use super::answer::{self, Answer};

pub(super) async fn commit(mut call: Call) -> Result<Answer, Error> {
    let body = call.body().await?;
    let query = &call.query;
    let request = CommitRequest {
        reference: reference(query.get("repo"), query.get("tag"))?,
        author: query.get("author").to_owned(),
        comment: query.get("comment").to_owned(),
        pause: query.get("pause").is_empty() || query.flag("pause"),
        changes: query.all("changes"),
        config: if body.is_empty() { None } else { hoist_api::decode::from_slice(&body)? },
    };
    let id = call.engine.containers.commit(query.get("container"), request).await?;
    answer::json(StatusCode::CREATED, &json!({ "Id": id }))
}

/// The name that `repo` and `tag` give.
fn reference(repo: &str, tag: &str) -> Result<Option<Reference>, Error> {
    let invalid = |e: hoist_api::reference::ReferenceError| Error::invalid(e.to_string());
    if repo.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse(repo).map_err(invalid)?;
    if reference.digest.is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if tag.is_empty() {
        return Ok(Some(reference.with_default_tag()));
    }
    Reference::parse(&format!("{}:{tag}", reference.name())).map(Some).map_err(invalid)
}
