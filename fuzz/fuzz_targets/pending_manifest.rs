//! Feeds libFuzzer's bytes to `hoist_cli::fuzzing::pending_manifest`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_cli::fuzzing::pending_manifest(bytes));
