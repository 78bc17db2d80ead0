//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

use std::collections::BTreeMap;

use crate::options;

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[("volume_options", volume_options)];

/// A volume's name and options, one a line.
pub fn volume_options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let name = lines.next().unwrap_or_default();
    if options::check_name(name).is_ok() {
        assert!(!name.contains('/') && !name.starts_with('.') && name.len() < 256, "no name for a directory: {name:?}");
    }
    let pairs = lines.map(|line| line.split_once('=').unwrap_or((line, "")));
    let wanted: BTreeMap<String, String> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if options::check(name, &wanted).is_ok()
        && let Some(spec) = options::mount_spec(&wanted)
    {
        assert!(!spec.is_bind() || spec.source.starts_with('/'), "a bind mount of {:?}", spec.source);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
