//! Error kinds, their HTTP status, and the texts that Docker's clients match.

use serde::{Deserialize, Serialize};

/// What sort of failure it is; decides the HTTP status once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NotModified,
    Invalid,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    Internal,
    NotImplemented,
    Unavailable,
}

impl Kind {
    /// The HTTP status code of this kind.
    pub fn status(self) -> u16 {
        match self {
            Kind::NotModified => 304,
            Kind::Invalid => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::TooLarge => 413,
            Kind::Internal => 500,
            Kind::NotImplemented => 501,
            Kind::Unavailable => 503,
        }
    }
}

/// A failure as a client sees it: a kind and a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Kind,
    pub message: String,
}

/// The body of every error answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ErrorBody {
    pub message: String,
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => { impl Error { $(
        #[doc = concat!("An error of kind [`Kind::", stringify!($kind), "`].")]
        pub fn $name(message: impl Into<String>) -> Error {
            Error { kind: Kind::$kind, message: crate::errno::without_numbers(message.into()) }
        }
    )* } };
}

constructors! {
    not_modified => NotModified,
    invalid => Invalid,
    unauthorized => Unauthorized,
    forbidden => Forbidden,
    not_found => NotFound,
    conflict => Conflict,
    internal => Internal,
    not_implemented => NotImplemented,
    unavailable => Unavailable,
}

impl Error {
    /// Unknown container.
    pub fn no_such_container(name: &str) -> Error {
        Error::not_found(format!("No such container: {name}"))
    }

    /// Unknown exec instance.
    pub fn no_such_exec(id: &str) -> Error {
        Error::not_found(format!("No such exec instance: {id}"))
    }

    /// An operation that needs a running container.
    pub fn not_running(id: &str) -> Error {
        Error::conflict(format!("container {id} is not running"))
    }

    /// The container name is taken.
    pub fn name_in_use(name: &str, id: &str) -> Error {
        Error::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        ))
    }
}
