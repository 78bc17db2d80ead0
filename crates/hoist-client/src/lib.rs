//! Blocking client of the engine's HTTP API: endpoints, requests, streamed answers, hijacked connections and
//! the multiplexed stream format. It knows HTTP/1.1 and Docker's framings; it does not know what a container is.

#![forbid(unsafe_code)]

mod body;
mod client;
mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
pub mod query;
pub mod stdcopy;
mod stream;

pub use body::{Body, Response};
pub use client::{Client, Hijacked, Request, Upload};
pub use endpoint::{DEFAULT_HTTP_PORT, Endpoint};
pub use error::{Error, Result};
pub use stream::Stream;
