//! The document that a list becomes at a registry, byte for byte as Docker's client writes it: the same images give the same
//! digest.

use hoist_api::{manifest::DescribedPlatform, reference::Reference};
use serde::Serialize;

use super::document::ImageManifest;
use crate::format::json;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(super) struct ListDocument {
    pub(super) media_type: &'static str,
    pub(super) text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    media_type: &'a str,
    size: u64,
    digest: &'a str,
    platform: DescribedPlatform,
}

/// The list of these images under `target`.
pub(super) fn document(target: &Reference, images: &[ImageManifest]) -> Result<ListDocument, String> {
    let mut manifests = Vec::new();
    for image in images {
        let source = Reference::parse(&image.reference).map_err(|why| why.to_string())?;
        if source.domain != target.domain {
            let (from, to) = (&source.domain, &target.domain);
            let text = "cannot use source images from a different registry than the target image";
            return Err(format!("{text}: {from} != {to}"));
        }
        let descriptor = &image.descriptor;
        let platform = descriptor.platform.clone().unwrap_or_default();
        let (media_type, size, digest) = (&*descriptor.media_type, descriptor.size, &*descriptor.digest);
        manifests.push(Entry { media_type, size, digest, platform });
    }
    // what the first is decides which family the list is of
    let is_oci = manifests.first().is_some_and(|first| first.media_type == OCI_MANIFEST);
    let media_type = if is_oci { OCI_INDEX } else { DOCKER_LIST };
    let document = Document { schema_version: 2, media_type, manifests };
    let text = serde_json::to_string(&document).map_err(|why| why.to_string())?;
    Ok(ListDocument { media_type, text: json::indent(&json::escape_html(&text), "   ") })
}
