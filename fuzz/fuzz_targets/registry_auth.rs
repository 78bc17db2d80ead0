//! Feeds libFuzzer's bytes to `hoist_daemon::fuzzing::registry_auth`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_daemon::fuzzing::registry_auth(bytes));
