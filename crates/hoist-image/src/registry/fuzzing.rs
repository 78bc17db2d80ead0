//! What of a registry's answers is parsed here, for the crate's fuzzing entry points.

use hyper::StatusCode;

use super::{auth, blob, endpoint::Origin, error, pause, search, upload};
use hoist_api::reference::Reference;

/// Challenges, one a line, and what else comes in headers.
pub(crate) fn challenge(text: &str) {
    if let Some(auth::Challenge::Bearer { realm, .. }) = auth::challenge(text.lines()) {
        let _ = Origin::of_url(&realm).map(|(origin, _)| origin.to_string());
    }
    for line in text.lines() {
        let _ = (blob::range_start(line), upload::range_end(line), pause::retry_after(line), Origin::of_url(line));
        if let Some(path) = blob::next_page(line) {
            assert!(path.starts_with('/'), "a page that is not on the registry: {path:?}");
        }
    }
}

/// Bodies of errors: what is told is bounded and clean.
pub(crate) fn answer(status: StatusCode, body: &[u8]) {
    search::read_answer(body);
    let failure = error::Failure::Refused(error::ApiError::new(status, body));
    let _ = failure.is_transient();
    let Ok(reference) = Reference::parse("foo:bar") else { return };
    let told = failure.for_pull(&reference).to_string();
    assert!(told.len() < 100_000 && !told.chars().any(char::is_control), "{told:?}");
}
