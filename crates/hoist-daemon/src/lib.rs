//! The engine as a daemon: configuration, the Docker API door, wiring, shut-down. Everything about HTTP is here, nothing
//! about containers.

#![forbid(unsafe_code)]

mod config;
mod docker;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod listen;
mod quiet;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hoist_engine::Engine;
use hoist_runtime::spawner::Spawner;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Dialect};

/// Runs `hoist engine …` (or `dockerd …`) until it is told to end. `args` begins with the program's name.
///
/// Must be called while the process has one thread: the spawner is forked first.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let dialect = Dialect::of(&args);
    let config = match config::read(args.clone(), dialect) {
        Ok(config) => config,
        Err(config::Stop::Shown(code)) => return code,
        Err(config::Stop::Bad(text)) => {
            report(&text);
            return ExitCode::from(1);
        }
    };
    if config.validate {
        _ = writeln!(std::io::stderr(), "configuration OK");
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        report("the engine needs root: run it with sudo or as a system service");
        return ExitCode::from(1);
    }
    if config.autostarted {
        // A client started us from its terminal: we are to outlive it. Failing means we lead a session already.
        _ = rustix::process::setsid();
    }
    let level = start_logging(&config);
    let spawner = match Spawner::start() {
        Ok(spawner) => spawner,
        Err(e) => {
            report(&format!("cannot fork the spawner: {e}"));
            return ExitCode::from(1);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            report(&format!("cannot start the engine's threads: {e}"));
            return ExitCode::from(1);
        }
    };
    let ended = runtime.block_on(serve(config, spawner, Reload { args, dialect, level }));
    runtime.shutdown_timeout(Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            report(&text);
            ExitCode::from(1)
        }
    }
}

async fn serve(config: Config, spawner: Spawner, reload: Reload) -> Result<(), String> {
    // From now on a signal does not end the process where it stands, with its files left behind.
    let signals = Signals::watch()?;
    let mut traces = Traces::default();
    if let Some(path) = &config.pid_file {
        config::pid_file::write(path)?;
        traces.pid_file = Some(path.clone());
    }
    // Bound before the engine opens, served after: a client that connects early waits instead of failing.
    let doors = listen::bind(&config.hosts, config.group.as_deref())?;
    traces.hosts.clone_from(&config.hosts);
    let engine = Arc::new(Engine::open(config.settings, spawner).map_err(|e| e.message)?);
    tracing::info!("API listening on {}", config.hosts.join(", "));
    let serving = docker::serve(engine.clone(), doors);
    let ended = tokio::select! {
        ended = serving => ended,
        name = signals.stop(&engine, &reload) => {
            tracing::info!("{name} received, shutting down");
            Ok(())
        }
    };
    engine.shut_down().await;
    ended
}

/// The files that say that an engine is here: gone with it, however its start or its work ends.
#[derive(Default)]
struct Traces {
    hosts: Vec<String>,
    pid_file: Option<PathBuf>,
}

impl Drop for Traces {
    fn drop(&mut self) {
        listen::remove(&self.hosts);
        if let Some(path) = &self.pid_file {
            _ = std::fs::remove_file(path);
        }
    }
}

/// What a reload needs: the command line that the configuration file is read beside, and the way to change how much is
/// logged.
struct Reload {
    args: Vec<OsString>,
    dialect: Dialect,
    level: Box<dyn Fn(&str) + Send + Sync>,
}

impl Reload {
    /// Reads the configuration anew; one that is wrong changes nothing.
    fn run(&self, engine: &Engine) {
        let config = match config::read(self.args.clone(), self.dialect) {
            Ok(config) => config,
            Err(config::Stop::Bad(text)) => return tracing::error!("configuration not reloaded: {text}"),
            Err(config::Stop::Shown(_)) => return tracing::error!("configuration not reloaded"),
        };
        (self.level)(&config.log_level);
        let settings = (*config.settings.live.now()).clone();
        tracing::info!("configuration reloaded: {settings:?}");
        engine.system.reload(settings);
    }
}

/// The signals that an engine heeds.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn watch() -> Result<Signals, String> {
        let watch = |kind| signal(kind).map_err(|e| format!("cannot watch for signals: {e}"));
        Ok(Signals {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT; reloads the configuration at each SIGHUP.
    async fn stop(mut self, engine: &Engine, reload: &Reload) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => reload.run(engine),
            }
        }
    }
}

/// Returns the way to change the level, which does nothing where the environment says what is logged.
fn start_logging(config: &Config) -> Box<dyn Fn(&str) + Send + Sync> {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::prelude::*;
    let from_environment = EnvFilter::try_from_env("HOIST_LOG").ok();
    let is_fixed = from_environment.is_some();
    let filter = from_environment.unwrap_or_else(|| EnvFilter::new(&config.log_level));
    let colours = !config.raw_logs && rustix::termios::isatty(rustix::stdio::stderr());
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let output = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(output).init();
    Box::new(move |level| {
        if !is_fixed {
            // Fails only when the subscriber is gone, and logging with it.
            _ = handle.reload(EnvFilter::new(level));
        }
    })
}

/// Says why the engine does not start, before or without logging.
fn report(text: &str) {
    _ = writeln!(std::io::stderr(), "hoist engine: {text}");
}
