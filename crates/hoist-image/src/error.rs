//! What can go wrong with images, by kind; the texts are Docker's where Docker has one.

use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such image here, or the registry has no such repository, tag or platform (404).
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unauthorized(String),
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub(crate) fn no_such_image(name: &str) -> Error {
        Error::NotFound(format!("No such image: {name}"))
    }

    /// An I/O failure, naming what was done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Other(format!("{action} {}: {source}", path.display()))
    }
}

impl From<hoist_db::Error> for Error {
    fn from(source: hoist_db::Error) -> Error {
        Error::Other(source.to_string())
    }
}

impl From<hoist_api::reference::ReferenceError> for Error {
    fn from(source: hoist_api::reference::ReferenceError) -> Error {
        Error::Invalid(source.to_string())
    }
}
