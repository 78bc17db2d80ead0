//! `GET /images/search`

use hoist_api::error::Error;
use hoist_api::filters::Filters;
use hoist_engine::SEARCH_FILTER_KEYS;
use serde_json::{Value, json};

use super::Call;
use super::answer::{self, Answer};
use super::images;

pub(super) async fn search(call: Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &SEARCH_FILTER_KEYS)?;
    let limit = call.query.integer("limit")?.unwrap_or(0);
    let header = call.request.headers().get("x-registry-auth").and_then(|v| v.to_str().ok());
    let credentials = images::credentials(header);
    let term = call.query.get("term");
    let found = call.engine.images.search(term, limit, &filters, credentials.as_ref()).await?;
    let items = found.into_iter().map(|result| {
        json!({
            "star_count": result.star_count,
            "is_official": result.is_official,
            "name": result.name,
            "is_automated": result.is_automated,
            "description": result.description,
        })
    });
    answer::ok(&items.collect::<Vec<Value>>())
}
