//! `/_ping`, `/version`, `/info`.

use hoist_api::error::Error;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::Call;
use super::answer::{self, Answer};

pub(super) fn ping() -> Answer {
    let mut response = answer::text(StatusCode::OK, "text/plain; charset=utf-8", "OK");
    let headers = response.headers_mut();
    for (name, value) in [
        // The classic builder until the BuildKit door is there.
        ("builder-version", "1"),
        ("swarm", "inactive"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn version(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.system.version())
}

pub(super) fn info(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.system.info())
}
