//! Feeds libFuzzer's bytes to `hoist_api::fuzzing::create_body`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_api::fuzzing::create_body(bytes));
