//! Speaking to registries (OCI distribution-spec): `endpoint` says where, `transport` (with `resolve`, `proxy`, `tls`)
//! gets bytes there, `auth` logs in, `client` puts these together for one repository, `blob` fetches what is
//! in it, `referrers` what is about it. `url` fetches anything else.

mod auth;
mod blob;
mod client;
mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod proxy;
mod referrers;
mod resolve;
mod tls;
mod transport;
mod url;

pub(crate) use blob::{ChunkSink, FetchedManifest, LayerEvent, channel, not_wanted};
pub(crate) use client::{Repository, places};
pub(crate) use error::Failure;
pub use url::UrlSource;
