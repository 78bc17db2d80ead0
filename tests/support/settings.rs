//! Every environment variable that the suite reads, in one place.

use std::path::{Path, PathBuf};

/// The directory made by `cargo xtask test-bed`: the real docker client, the real registry, image material.
pub fn test_bed() -> PathBuf {
    path("HOIST_TEST_BED").unwrap_or_else(|| target().join("test-bed"))
}

/// The executable under test. Without the variable, the newest build is taken.
pub fn binary() -> Option<PathBuf> {
    if let Some(binary) = path("HOIST_TEST_BINARY") {
        return Some(binary);
    }
    let triples = std::fs::read_dir(target()).ok()?.flatten().map(|entry| entry.path());
    let builds = triples.flat_map(|triple| ["release", "quick"].map(|profile| triple.join(profile).join("hoist")));
    builds.filter(|build| build.is_file()).max_by_key(|build| build.metadata().and_then(|data| data.modified()).ok())
}

/// The socket of a running dockerd on which the suite is to be run.
pub(crate) fn peer_socket() -> Option<PathBuf> {
    path("HOIST_TEST_PEER_SOCKET")
}

/// The root directory as that dockerd sees it, by a path of ours.
pub(crate) fn peer_root() -> PathBuf {
    path("HOIST_TEST_PEER_ROOT").unwrap_or_else(|| "/".into())
}

/// The one client (`docker` or `hoist`) that tests are to be run with, instead of both.
pub(crate) fn only_cli() -> Option<String> {
    text("HOIST_TEST_CLI")
}

/// Needs that must be met: names separated by commas, or `all`.
pub(crate) fn required(need: &str) -> bool {
    text("HOIST_TEST_REQUIRE").is_some_and(|list| list.split(',').any(|name| name == need || name == "all"))
}

/// How many seconds a test waits for anything, at most.
pub(crate) fn patience_s() -> Option<u64> {
    text("HOIST_TEST_PATIENCE")?.parse().ok()
}

/// How many seconds each race between containers goes on.
pub(crate) fn race_s() -> Option<u64> {
    text("HOIST_TEST_RACE_SECONDS")?.parse().ok()
}

/// The file in which skips are collected.
pub(crate) fn skips() -> Option<PathBuf> {
    path("HOIST_TEST_SKIPS")
}

fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join(path("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn path(name: &str) -> Option<PathBuf> {
    text(name).map(PathBuf::from)
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
