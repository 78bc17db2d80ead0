//! Feeds libFuzzer's bytes to `hoist_client::fuzzing::stdcopy`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_client::fuzzing::stdcopy(bytes));
