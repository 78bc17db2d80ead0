//! The end-to-end suite: the product from outside, through the real docker client, our own, and the raw API.
//!
//! One module for each noun. Every test passes on a real dockerd too (`HOIST_TEST_PEER_SOCKET`), or skips there because it
//! wants an engine of its own.

mod attach;
mod exec;
mod life;
mod lists;
mod logs;
mod run;
