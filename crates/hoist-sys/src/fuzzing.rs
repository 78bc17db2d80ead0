//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[("netlink", netlink)];

/// Answers of netlink(7): framing, errors and the kernel's words about them.
pub fn netlink(bytes: &[u8]) {
    crate::netlink::read_all(bytes);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
