//! `hoist registry serve`: a registry of one's own, the server side of the OCI distribution-spec 1.1 and of what Docker asks
//! beside it. Knows nothing of engines, containers or unpacked layers.
//!
//! Map: `server` accepts connections and sees that none waits for ever; `users` says who may come in; `route` makes of a path
//! what is asked for, with names that fit the spec's grammar only; `handlers` decode, make one call, and answer. What there is
//! lies in `store`: blobs by digest, unfinished uploads, and one database that says what belongs to which repository.

#![forbid(unsafe_code)]

mod answer;
mod deadline;
mod error;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handlers;
mod manifest;
mod ranges;
mod reread;
mod route;
mod server;
mod store;
mod tls;
mod users;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flags::Stop;

/// Runs `hoist registry …`; `args` begins with the word `registry`.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let settings = match flags::read(args) {
        Ok(settings) => settings,
        Err(Stop::Shown(code)) => return code,
        Err(Stop::Bad(text)) => return report(&text),
    };
    start_logging(&settings.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(64).build() {
        Ok(runtime) => runtime,
        Err(e) => return report(&format!("cannot start threads: {e}")),
    };
    let ended = runtime.block_on(server::serve(settings));
    runtime.shutdown_timeout(Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => report(&text),
    }
}

fn start_logging(level: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("HOIST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colours = rustix::termios::isatty(rustix::stdio::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

/// Says why the registry does not start or go on.
fn report(text: &str) -> ExitCode {
    _ = writeln!(std::io::stderr(), "hoist registry: {text}");
    ExitCode::from(1)
}

/// Unix time in nanoseconds.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
