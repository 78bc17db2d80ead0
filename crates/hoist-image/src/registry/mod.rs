//! Speaking to registries (OCI distribution-spec): `endpoint` (with `hosts`) says where, `transport` (with `resolve`, `proxy`, `tls`)
//! gets bytes there, `auth` logs in, `pause` waits, `client` puts these together for one repository, `blob` fetches what is in it,
//! `referrers` what is about it, `upload` puts something there. `url` fetches anything else.

mod auth;
mod blob;
mod client;
mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hosts;
mod login;
mod pause;
mod proxy;
mod referrers;
mod resolve;
mod search;
mod tls;
mod transport;
mod upload;
mod url;
mod verifier;

pub(crate) use blob::{ChunkSink, FetchedManifest, LayerEvent, channel, not_wanted};
pub(crate) use client::{Access, Repository, places};
pub(crate) use error::Failure;
pub(crate) use login::login;
pub use search::SearchResult;
pub(crate) use upload::{Mount, Upload};
pub use url::UrlSource;
