//! What can go wrong between a client and an engine. Texts here name no product: the caller adds its own name.

use std::io;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the endpoint.
    #[error("cannot connect to {host}: {source}")]
    Connect { host: String, source: io::Error },
    /// The engine answered with an error status; `message` is its own text.
    #[error("{message}")]
    Api { status: u16, message: String, container: Option<String> },
    #[error("{0}")]
    Endpoint(String),
    #[error("invalid answer from the engine: {0}")]
    Protocol(String),
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What was to be sent could not be read to its end; the request was broken off.
    #[error("{0}")]
    Upload(io::Error),
    #[error("invalid JSON from the engine: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// The HTTP status, when the engine gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }
}
