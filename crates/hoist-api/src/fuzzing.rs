//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

#![expect(clippy::expect_used, reason = "what fails here is to be found")]

use crate::container::CreateBody;
use crate::filters::Filters;
use crate::reference::Reference;
use crate::{decode, routes, time};

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] =
    &[("reference", reference), ("filters", filters), ("times", times), ("create_body", create_body), ("paths", paths)];

/// Image references. What is parsed prints as something that parses to the same.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(parsed) = Reference::parse(text) else { return };
    assert_eq!(Reference::parse(&parsed.to_string()).as_ref(), Ok(&parsed), "{text:?}");
    let _ = (parsed.familiar(), parsed.with_default_tag().to_string());
}

/// The `filters` parameter.
pub fn filters(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let allowed = ["label", "label!", "name", "dangling", "until", "status", "id"];
    let Ok(filters) = Filters::parse(text, &allowed) else { return };
    let labels = std::iter::once(("a".to_owned(), "b".to_owned())).collect();
    let _ = (filters.labels_match(&labels), filters.boolean("dangling"), filters.any("name", |name| name == "x"));
}

/// Times and durations in all their spellings.
pub fn times(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for ns in [time::parse_rfc3339(text), time::parse_unix(text), time::parse_duration(text)].into_iter().flatten() {
        let _ = (time::rfc3339_nano(ns), time::human_duration(ns));
        let fixed = time::rfc3339_fixed(ns);
        // The second in which the oldest time lies begins before it.
        assert!(time::parse_rfc3339(&fixed) == Some(ns) || ns < i64::MIN + 1_000_000_000, "{text:?} is {fixed}");
    }
}

/// Bodies of requests, as Go would read them.
pub fn create_body(bytes: &[u8]) {
    let Ok(body) = decode::from_slice::<CreateBody>(bytes) else { return };
    let written = serde_json::to_vec(&body.host_config).expect("what was read can be written");
    decode::from_slice::<crate::host_config::HostConfig>(&written).expect("what was written can be read");
}

/// Paths of requests.
pub fn paths(bytes: &[u8]) {
    let Ok(path) = str::from_utf8(bytes) else { return };
    let (_, bare) = routes::split_version(path);
    for method in ["GET", "POST", "PUT", "HEAD", "DELETE"] {
        let _ = routes::find(method, bare);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
