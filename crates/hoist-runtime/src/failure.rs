//! From errors of system calls to the texts that users read.

use std::io;

use crate::protocol::Failure;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Adds what was tried, with the errno's text as runc (Go) prints it.
pub(crate) trait OrFail<T> {
    fn or_fail<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> OrFail<T> for std::result::Result<T, E> {
    fn or_fail<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Failure::other(format!("{}: {}", what().into(), text(error))))
    }
}

pub(crate) fn text(error: impl Into<io::Error>) -> String {
    hoist_sys::errno_text(&error.into())
}
