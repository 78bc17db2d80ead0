//! The search that `docker search HOST:PORT/word` asks for, in Docker Hub's form.

use hyper::header::HeaderName;
use serde::Serialize;

use super::Call;
use crate::answer::{self, Answer};
use crate::error::Error;

/// Docker's own.
const PAGE_DEFAULT: u32 = 25;
const PAGE_MAX: u32 = 100;

#[derive(Serialize)]
struct Results<'a> {
    num_pages: u64,
    num_results: u64,
    page: u32,
    page_size: u32,
    query: &'a str,
    results: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    description: String,
    star_count: u32,
    is_official: bool,
    is_automated: bool,
    is_trusted: bool,
}

/// Docker asks this before it searches.
pub(super) fn ping() -> Answer {
    let mut answer = answer::bytes("application/json", "true");
    answer::set(&mut answer, HeaderName::from_static("x-docker-registry-standalone"), "true");
    answer
}

pub(super) async fn search(call: &Call) -> Result<Answer, Error> {
    let term = call.query("q").unwrap_or_default().to_owned();
    let page_size = match call.number("n", PAGE_DEFAULT)? {
        0 => PAGE_DEFAULT,
        count => count.min(PAGE_MAX),
    };
    let page = call.number("page", 1)?.max(1);
    let (wanted, offset) = (term.clone(), u64::from(page - 1) * u64::from(page_size));
    let (num_results, found) = call.registry.store.run(move |store| store.search(&wanted, (offset, page_size))).await?;
    let entry = |found: crate::store::Found| Entry {
        name: found.name,
        description: found.description,
        // Nobody gives stars here, and nobody is official.
        star_count: 0,
        is_official: false,
        is_automated: false,
        is_trusted: false,
    };
    let num_pages = num_results.div_ceil(u64::from(page_size));
    let results = found.into_iter().map(entry).collect();
    answer::json(&Results { num_pages, num_results, page, page_size, query: &term, results })
}
