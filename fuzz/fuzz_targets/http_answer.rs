//! Feeds libFuzzer's bytes to `hoist_client::fuzzing::http_answer`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_client::fuzzing::http_answer(bytes));
