//! Feeds libFuzzer's bytes to `hoist_engine::fuzzing::account_files`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_engine::fuzzing::account_files(bytes));
