//! The end-to-end suite: the product from outside, through the real docker client, our own, and the raw API.
//!
//! One module for each noun. Every test passes on a real dockerd too (`HOIST_TEST_PEER_SOCKET`), or skips there because it
//! wants an engine of its own.

mod archives;
mod attach;
mod bad_input;
mod client_config;
mod clients;
mod commit;
mod configuration;
mod crash;
mod disk;
mod escapes;
mod events;
mod exec;
mod export;
mod first_run;
mod flags;
mod hostile_images;
mod image_diff;
mod images;
mod life;
mod limits;
mod lists;
mod log_options;
mod login;
mod logs;
mod manifest;
mod network;
mod policy;
mod push;
mod races;
mod registry_serve;
mod run;
mod runtimes;
mod save;
mod scale;
mod search;
mod security;
mod seeds;
mod stalling;
mod streams;
mod subpath;
mod supervisors;
mod trust;
mod upkeep;
mod usage;
mod verify;
mod volumes;

use hoist_tests::{Bed, Entry, Image};

/// Loads the image `inside`: busybox with the suite's own program in `/bin/inside`.
#[track_caller]
fn load_inside(t: &Bed) {
    let image = Image::busybox_with(&[Entry::file("bin/inside", inside_program()).mode(0o755)], serde_json::json!({}));
    t.load_once("inside:latest", &image);
}

/// The suite's own program for the inside of containers.
fn inside_program() -> Vec<u8> {
    // Elsewhere than where it was built, a variable says where it is.
    let path = std::env::var("HOIST_TEST_INSIDE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_inside").into());
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
