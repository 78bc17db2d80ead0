//! The support library of the end-to-end suite: engines, registries, clients and terminals as fixtures.
//!
//! A test is a closure given to [`both`] (once with the real `docker` client, once with `hoist`) or to [`engine`] (no
//! client: the raw API). Each run gets a [`Bed`]: an engine of its own with its own root, socket and bridge, or, where
//! `HOIST_TEST_PEER_SOCKET` names one, a real dockerd, on which the same tests must pass. Nothing here knows the product
//! from inside.

mod api;
mod bed;
mod command;
mod engine;
mod frames;
mod image;
mod registry;
mod settings;
mod shapes;
mod skip;
mod terminal;
mod words;

pub use api::{Api, Hijacked, Reply, Streaming};
pub use bed::{Bed, Cli, HostDir, both, engine, hoist};
pub use command::{Background, Ran};
pub use engine::Engine;
pub use frames::{demultiplex, frames};
pub use image::{Entry, Image, Layer, digest};
pub use registry::Registry;
pub use settings::{binary, test_bed};
pub use skip::skipped;
pub use terminal::Terminal;

use std::time::{Duration, Instant};

/// How long anything in a test may take before it counts as hung. Longer on emulated machines.
pub fn patience() -> Duration {
    Duration::from_secs(settings::patience_s().unwrap_or(60))
}

/// How long a race between containers goes on: short by default, since it is run with everything else.
pub fn race_duration() -> Duration {
    Duration::from_secs(settings::race_s().unwrap_or(3))
}

/// Waits until `condition` holds; a test that waits in vain fails with `what`.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < patience() / 2, "in vain for {:?}: {what}", start.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the test here because the machine lacks something: loudly, and as a failure where that need is required.
#[macro_export]
macro_rules! skip {
    ($need:expr, $($reason:tt)+) => {{
        $crate::skipped($need, &format!($($reason)+));
        return;
    }};
}
