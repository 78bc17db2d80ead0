//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

use crate::docker;

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[("query", query), ("registry_auth", registry_auth)];

/// Query strings and API versions.
pub fn query(bytes: &[u8]) {
    docker::read_query(&String::from_utf8_lossy(bytes));
}

/// The `X-Registry-Auth` header.
pub fn registry_auth(bytes: &[u8]) {
    docker::read_registry_auth(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
