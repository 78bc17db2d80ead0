//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

use crate::ranges::{ChunkRange, Wanted};
use crate::{manifest, ranges, route, users};

/// Takes a fuzzer's bytes.
pub type Entry = fn(&[u8]);

pub const TARGETS: &[(&str, Entry)] =
    &[("registry_path", registry_path), ("registry_ranges", registry_ranges), ("pushed_manifest", pushed_manifest)];

/// Paths and the names in them. What is found fits the grammar.
pub fn registry_path(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = users::basic(text);
    let Ok(route) = route::parse(text) else { return };
    let (route::Route::Blob { name, digest } | route::Route::Referrers { name, digest }) = route else { return };
    assert!(!name.contains("..") && !name.starts_with('/') && !digest.contains('/'), "{name} {digest}");
}

/// `Content-Range` and `Range`: what is wanted lies in the blob.
pub fn registry_ranges(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Some(range) = ChunkRange::parse(text) {
        assert!(range.length() > 0, "an empty chunk");
    }
    for size in [0, 1, 10, u64::MAX] {
        if let Wanted::Part { offset, length } = ranges::wanted(Some(text), size) {
            assert!(length > 0 && offset.checked_add(length).is_some_and(|end| end <= size), "outside of the blob");
        }
    }
}

/// Manifests; the first byte says what the client called them.
pub fn pushed_manifest(bytes: &[u8]) {
    let (kind, document) = bytes.split_first().unwrap_or((&0, &[]));
    let kinds = ["", manifest::OCI_INDEX, "application/vnd.docker.distribution.manifest.v2+json", "application/json"];
    let _ = manifest::parse(document, kinds[usize::from(*kind) % kinds.len()]);
    let _ = manifest::description_in_config(document);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
