//! `POST` and `DELETE /hoist/images/{name}/pin`.

use hoist_api::error::Error;
use serde_json::json;

use super::{Answer, Call, answer, blocking};

pub(in crate::docker) async fn pin(call: &Call) -> Result<Answer, Error> {
    let (images, name) = (call.engine.images.clone(), call.name.clone());
    answer::ok(&json!({ "Id": blocking(move || images.pin(&name)).await? }))
}

pub(in crate::docker) async fn unpin(call: &Call) -> Result<Answer, Error> {
    let (images, name) = (call.engine.images.clone(), call.name.clone());
    answer::ok(&blocking(move || images.unpin(&name)).await?)
}
