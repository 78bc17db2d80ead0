//! Manifests and indexes of both families (OCI image-spec manifest.md, image-index.md; Docker schema 2): parsed from
//! verified bytes, checked, and the right one chosen for a platform. Pure.

use hoist_api::manifest::DescribedPlatform;
use serde::Deserialize;

use crate::{Error, Platform, digest};

pub(crate) const MEDIA_DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const MEDIA_DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const MEDIA_DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const MEDIA_OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const MEDIA_OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MEDIA_DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const MEDIA_OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const MEDIA_OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MEDIA_SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];

pub(crate) const DOCUMENT_MAX_BYTES: u64 = 4 << 20;
/// An index names one manifest per platform and perhaps its attestations.
const ENTRIES_MAX: usize = 4096;

/// A pointer to a blob.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    /// Boxed: few descriptors have one.
    pub(crate) platform: Option<Box<DescribedPlatform>>,
    #[serde(default)]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// A manifest document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    Image(ImageManifest),
    Index(Vec<Descriptor>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Either document's keys; a key given twice is an error.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Reads a manifest. `media_type` is what the transport said it is, "" if it said nothing; document and transport must
/// agree, and a document must be one thing only (CVE-2021-41190).
pub(crate) fn parse(bytes: &[u8], media_type: &str) -> Result<Manifest, Error> {
    let invalid = |text: &str| Error::Invalid(format!("invalid manifest: {text}"));
    if bytes.len() as u64 > DOCUMENT_MAX_BYTES {
        return Err(invalid(&format!("{} bytes is too large", bytes.len())));
    }
    let document: Either = serde_json::from_slice(bytes).map_err(|e| invalid(&e.to_string()))?;
    if document.schema_version == Some(1) || document.fs_layers.is_some() || MEDIA_SCHEMA1.contains(&media_type) {
        return Err(Error::Invalid(
            "Docker Image manifest version 2, schema 1 is not supported: the image must be pushed again as Docker \
             schema 2 or OCI"
                .to_owned(),
        ));
    }
    if document.schema_version != Some(2) {
        return Err(invalid("schemaVersion is not 2"));
    }
    let said = document.media_type.as_deref().unwrap_or_default();
    if is_manifest_type(media_type) && !said.is_empty() && said != media_type {
        return Err(invalid(&format!("mediaType is {said:?}, the registry said {media_type:?}")));
    }
    let known = if said.is_empty() && is_manifest_type(media_type) { media_type } else { said };
    let manifest = match (document.config, document.layers, document.manifests) {
        (Some(config), layers, None) if !is_index_type(known) => {
            Manifest::Image(ImageManifest { config, layers: layers.unwrap_or_default() })
        }
        (None, None, Some(manifests)) if !is_image_type(known) => Manifest::Index(manifests),
        (None, None, None) => return Err(invalid("neither config nor manifests")),
        _ => return Err(invalid("it mixes the keys of an image and of an index")),
    };
    let descriptors = match &manifest {
        Manifest::Image(image) => std::iter::once(&image.config).chain(&image.layers).collect::<Vec<_>>(),
        Manifest::Index(manifests) => manifests.iter().collect(),
    };
    if descriptors.len() > ENTRIES_MAX {
        return Err(invalid("too many entries"));
    }
    for descriptor in descriptors {
        digest::hex_of(&descriptor.digest)?;
        if i64::try_from(descriptor.size).is_err() {
            return Err(invalid("size out of range"));
        }
    }
    Ok(manifest)
}

/// The entries of a document that [`parse`] called an index, with all that it says about them.
pub(crate) fn entries(bytes: &[u8]) -> Result<Vec<hoist_api::manifest::Descriptor>, Error> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<hoist_api::manifest::Descriptor>,
    }
    let index: Index =
        hoist_api::decode::from_slice(bytes).map_err(|e| Error::Invalid(format!("invalid manifest: {e}")))?;
    Ok(index.manifests)
}

pub(crate) fn is_image_type(media_type: &str) -> bool {
    matches!(media_type, MEDIA_DOCKER_MANIFEST | MEDIA_OCI_MANIFEST)
}

fn is_index_type(media_type: &str) -> bool {
    matches!(media_type, MEDIA_DOCKER_LIST | MEDIA_OCI_INDEX)
}

fn is_manifest_type(media_type: &str) -> bool {
    is_image_type(media_type) || is_index_type(media_type)
}

impl ImageManifest {
    /// Refuses what is no container image: helm charts, signatures and other artifacts share the registries.
    pub(crate) fn check_is_image(&self) -> Result<(), Error> {
        match self.config.media_type.as_str() {
            "" | MEDIA_DOCKER_CONFIG | MEDIA_OCI_CONFIG | "application/octet-stream" | "application/json" => Ok(()),
            other => Err(Error::Invalid(format!("unsupported media type {other}: this is not a container image"))),
        }
    }
}

/// The entry of an index that fits best.
pub(crate) fn choose<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, Error> {
    let candidates = manifests.iter().filter(|m| m.media_type.is_empty() || is_manifest_type(&m.media_type));
    let best = candidates.filter_map(|m| Some((rank(m.platform.as_deref(), wanted)?, m)));
    // The first of equals: index authors put the preferred one first.
    best.min_by_key(|(rank, _)| *rank)
        .map(|(_, manifest)| manifest)
        .ok_or_else(|| Error::NotFound(format!("no matching manifest for {wanted} in the manifest list entries")))
}

/// 0 is exact; `None` does not run.
fn rank(platform: Option<&DescribedPlatform>, wanted: &Platform) -> Option<u32> {
    let Some(platform) = platform else { return Some(1000) };
    if platform.os != wanted.os {
        return None;
    }
    if platform.architecture != wanted.architecture {
        return narrower_rank(platform, wanted);
    }
    let default = default_variant(&wanted.architecture);
    let have = if platform.variant.is_empty() { default } else { &platform.variant };
    let want = if wanted.variant.is_empty() { default } else { &wanted.variant };
    match (level(have), level(want)) {
        _ if have == want => Some(0),
        // Code for an older variant runs on a newer one; the newest that runs is best.
        (Some(have), Some(want)) if have < want => Some(want - have),
        _ => None,
    }
}

/// 32-bit code runs where nothing better is offered.
fn narrower_rank(platform: &DescribedPlatform, wanted: &Platform) -> Option<u32> {
    match (wanted.architecture.as_str(), platform.architecture.as_str()) {
        ("amd64", "386") => Some(500),
        ("arm64", "arm") => {
            let variant = if platform.variant.is_empty() { default_variant("arm") } else { &platform.variant };
            level(variant).filter(|level| *level <= 8).map(|level| 500 + 8 - level)
        }
        _ => None,
    }
}

fn default_variant(architecture: &str) -> &'static str {
    match architecture {
        "amd64" => "v1",
        "arm64" => "v8",
        "arm" => "v7",
        _ => "",
    }
}

fn level(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

#[cfg(test)]
mod tests;
