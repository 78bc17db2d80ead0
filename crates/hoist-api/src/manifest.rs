//! Manifests as registries have them, on Hoist's own routes: what `hoist manifest` asks of the engine, which alone speaks to
//! registries. A descriptor has the members and the order of OCI's (image-spec descriptor.md), as Docker's client keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// A pointer to a document at a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescribedPlatform>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
}

/// What an image is made for, with all that OCI has about it. An image's config has these members too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescribedPlatform {
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    #[serde(rename = "os.version", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(rename = "os.features", deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// `null` as Go reads it: nothing was said.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Answer of `GET /hoist/manifests/{name}`: an image's manifest, or all those that a list names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Fetched {
    pub is_list: bool,
    pub manifests: Vec<FetchedManifest>,
}

/// One manifest of an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FetchedManifest {
    /// Under which name it was found; one of a list has the list's with its own digest.
    pub reference: String,
    pub descriptor: Descriptor,
    /// The document as the registry has it, in base64.
    pub raw: String,
}

/// Body of `POST /hoist/manifests/{name}`: a manifest for a tag or digest, with the blobs of other repositories that it
/// needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct Put {
    pub mounts: Vec<Mount>,
    pub media_type: String,
    /// The document, in base64.
    pub raw: String,
}

/// A blob that another repository of the same registry has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct Mount {
    pub digest: String,
    /// The repository's path.
    pub from: String,
    /// The manifest may go without it: a layer that registries do not distribute.
    pub optional: bool,
}

/// Answer of `POST /hoist/manifests/{name}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PutAnswer {
    pub digest: String,
}
