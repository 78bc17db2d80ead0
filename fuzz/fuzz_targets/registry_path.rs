//! Feeds libFuzzer's bytes to `hoist_registry::fuzzing::registry_path`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_registry::fuzzing::registry_path(bytes));
