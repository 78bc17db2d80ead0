//! How a command of the OCI runtime fails: words, and the status that the process ends with. Also where they are logged.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::protocol::Failure;

/// An error of a command.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) status: u8,
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), status: 1 }
    }

    pub(super) fn with_status(self, status: u8) -> Fault {
        Fault { status, ..self }
    }

    /// Puts words before.
    pub(super) fn within(self, context: &str) -> Fault {
        Fault { message: format!("{context}: {}", self.message), status: self.status }
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Fault {
        Fault::new(message)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault::new(failure.message)
    }
}

/// Adds what was tried to an error of the system.
pub(super) trait Trying<T> {
    fn trying<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Trying<T> for std::result::Result<T, E> {
    fn trying<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Fault::new(format!("{}: {}", what().into(), hoist_sys::errno_text(&error.into()))))
    }
}

/// `--log`, `--log-format` and `--debug`.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) path: Option<PathBuf>,
    pub(super) json: bool,
    pub(super) debug: bool,
}

impl Log {
    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    /// What engines read to tell their users; with a log file also on standard error, as runc does.
    pub(super) fn error(&self, message: &str) {
        self.write("error", message);
        if self.path.is_some() {
            eprintln!("{message}");
        }
    }

    pub(super) fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    fn write(&self, level: &str, message: &str) {
        let time = super::clock::now();
        let mut line = if self.json {
            serde_json::json!({"level": level, "msg": message, "time": time}).to_string()
        } else {
            format!("time={time:?} level={level} msg={message:?}")
        };
        line.push('\n');
        let written = match &self.path {
            Some(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes())),
            None => io::stderr().write_all(line.as_bytes()),
        };
        if let (Err(error), Some(path)) = (written, &self.path) {
            eprintln!("unable to write log {path:?}: {error}");
        }
    }
}
