//! Speaking to registries (OCI distribution-spec): `endpoint` says where, `transport` (with `resolve`, `proxy`, `tls`)
//! gets bytes there, `auth` logs in, `client` puts these together for one repository, `blob` fetches what is in it.

mod auth;
mod blob;
mod client;
mod endpoint;
mod error;
mod proxy;
mod resolve;
mod tls;
mod transport;

pub(crate) use blob::{ChunkSink, FetchedManifest, LayerEvent, channel, not_wanted};
pub(crate) use client::{Repository, places};
pub(crate) use error::Failure;

use crate::Platform;

/// What images for this machine say they are for.
pub(crate) fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        "arm" => ("arm", "v7"),
        "x86" => ("386", ""),
        "powerpc64" => ("ppc64le", ""),
        "loongarch64" => ("loong64", ""),
        other => (other, ""),
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
}
