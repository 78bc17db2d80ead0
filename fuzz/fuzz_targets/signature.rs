//! Feeds libFuzzer's bytes to `hoist_image::fuzzing::signature`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_image::fuzzing::signature(bytes));
