//! Feeds libFuzzer's bytes to `hoist_network::fuzzing::netlink_attributes`, which says what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_network::fuzzing::netlink_attributes(bytes));
