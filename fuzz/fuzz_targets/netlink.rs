//! Feeds libFuzzer's bytes to `hoist_sys::fuzzing::netlink`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_sys::fuzzing::netlink(bytes));
