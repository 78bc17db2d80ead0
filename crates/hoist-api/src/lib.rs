//! The vocabulary: Docker's wire types, routes, image references, filters, error kinds and texts. No I/O, no async.

#![forbid(unsafe_code)]

pub mod container;
pub mod decode;
pub mod errno;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod host_config;
pub mod image;
pub mod inspect;
pub mod manifest;
pub mod network;
pub mod platform;
pub mod query;
pub mod reference;
pub mod routes;
pub mod run;
pub mod size;
pub mod system;
pub mod time;
