//! Feeds libFuzzer's bytes to `hoist_volume::fuzzing::volume_options`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_volume::fuzzing::volume_options(bytes));
