//! The command line: Docker's command tree, flags, output and exit codes, as a thin blocking client of the API.
//! It owns what users type and read; it holds no state and decides nothing about containers.

#![forbid(unsafe_code)]

mod app;
mod autostart;
mod commands;
mod completion;
mod config;
mod credentials;
mod env;
mod fast_exec;
mod fast_run;
mod flags;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod opts;
mod ours;
mod output;
mod progress;
mod stream;
mod template;
mod upload;

use std::ffi::OsString;

pub use app::VERSION;

/// Runs one command line; `args[0]` is the name the program was started by. Returns the exit status.
pub fn main(args: Vec<OsString>) -> i32 {
    app::run(args)
}
