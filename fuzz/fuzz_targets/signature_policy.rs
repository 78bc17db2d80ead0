//! Feeds libFuzzer's bytes to `hoist_image::fuzzing::signature_policy`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_image::fuzzing::signature_policy(bytes));
