//! Feeds libFuzzer's bytes to `hoist_api::fuzzing::reference`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_api::fuzzing::reference(bytes));
