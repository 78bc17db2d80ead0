//! What the registry must know of a pushed manifest: which blobs and manifests it names, whom it is about, what a list of
//! referrers says of it. The bytes themselves are kept as they came.

use std::collections::BTreeMap;

use hoist_image::blobs;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The spec wants four megabytes at least; more is refused.
pub(crate) const MANIFEST_MAX_BYTES: usize = 4 << 20;
/// More descriptors than this no image has.
const ENTRIES_MAX: usize = 10_000;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// One manifest or index, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) targets: Vec<Target>,
    /// Digest of the manifest that this one is about.
    pub(crate) subject: Option<String>,
    /// What a list of referrers calls it.
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Digest of the config, for what an image says of itself.
    pub(crate) config: Option<String>,
}

/// Something that must be there for the manifest to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
    /// A manifest, by an index; else a blob.
    pub(crate) is_manifest: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

/// The keys of both kinds; one given twice is an error.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Reads a manifest; `content_type` is what the client called it, "" if it did not. Document and header must agree, and a
/// document must be one thing only (CVE-2021-41190).
pub(crate) fn parse(bytes: &[u8], content_type: &str) -> Result<Manifest, Error> {
    let invalid = |text: &str| Error::manifest_invalid(text);
    let document: Document = serde_json::from_slice(bytes).map_err(Error::manifest_invalid)?;
    if document.schema_version == Some(1) || document.fs_layers.is_some() || SCHEMA1.contains(&content_type) {
        return Err(invalid("Docker's schema 1 is not supported: push as Docker schema 2 or OCI"));
    }
    if document.schema_version != Some(2) {
        return Err(invalid("schemaVersion is not 2"));
    }
    let media_type = media_type(&document, content_type)?;
    let is_index = matches!(media_type.as_str(), OCI_INDEX | DOCKER_LIST);
    let config = document.config.as_ref().map(|config| config.digest.clone());
    let config_type = document.config.as_ref().map(|config| config.media_type.clone()).unwrap_or_default();
    let said = document.artifact_type.filter(|text| !text.is_empty());
    let artifact_type = if is_index { said } else { said.or(Some(config_type).filter(|text| !text.is_empty())) };
    let targets = match (document.config, document.layers, document.manifests) {
        (Some(config), layers, None) if !is_index => blobs_of(config, layers.unwrap_or_default()),
        (None, None, Some(manifests)) if is_index => manifests.into_iter().map(|entry| target(entry, true)).collect(),
        (None, None, None) => return Err(invalid("neither config nor manifests")),
        _ => return Err(invalid("its keys are not those of its media type, or of an image and an index at once")),
    };
    let subject = document.subject.map(|subject| subject.digest);
    if targets.len() > ENTRIES_MAX {
        return Err(invalid("too many entries"));
    }
    for digest in targets.iter().map(|target| &target.digest).chain(&subject) {
        blobs::parse_digest(digest).map_err(Error::manifest_invalid)?;
    }
    let annotations = document.annotations.unwrap_or_default();
    Ok(Manifest { media_type, targets, subject, artifact_type, annotations, config })
}

fn media_type(document: &Document, content_type: &str) -> Result<String, Error> {
    // Parameters mean nothing here (distribution-spec "Pushing Manifests").
    let given = content_type.split(';').next().unwrap_or_default().trim();
    let said = document.media_type.as_deref().unwrap_or_default();
    // What clients say that have no better word for it.
    let is_vague = matches!(given, "" | "application/json" | "application/octet-stream");
    let media_type = match (is_vague, said) {
        (false, said) if !said.is_empty() && said != given => {
            return Err(Error::manifest_invalid(format!("mediaType is {said:?}, Content-Type {given:?}")));
        }
        (false, _) => given,
        (true, "") if document.manifests.is_some() => OCI_INDEX,
        (true, "") => OCI_MANIFEST,
        (true, said) => said,
    };
    match media_type {
        OCI_INDEX | OCI_MANIFEST | DOCKER_LIST | DOCKER_MANIFEST => Ok(media_type.to_owned()),
        other => Err(Error::manifest_invalid(format!("{other:?} is not the media type of a manifest"))),
    }
}

fn blobs_of(config: Descriptor, layers: Vec<Descriptor>) -> Vec<Target> {
    // Layers that lie elsewhere are not pushed.
    let here = layers.into_iter().filter(|layer| {
        let is_foreign = layer.media_type.contains(".nondistributable.") || layer.media_type.contains(".foreign.");
        !is_foreign && layer.urls.as_ref().is_none_or(Vec::is_empty)
    });
    std::iter::once(config).chain(here).map(|entry| target(entry, false)).collect()
}

fn target(descriptor: Descriptor, is_manifest: bool) -> Target {
    Target { digest: descriptor.digest, size_bytes: descriptor.size, is_manifest }
}

/// What an image's config says that it is, in its label `org.opencontainers.image.description`.
pub(crate) fn description_in_config(config: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        config: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(rename = "Labels")]
        labels: BTreeMap<String, String>,
    }
    serde_json::from_slice::<Config>(config).ok()?.config.labels.remove(DESCRIPTION)
}

/// OCI image-spec, annotations.md.
pub(crate) const DESCRIPTION: &str = "org.opencontainers.image.description";

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(text: &str, content_type: &str) -> Result<Manifest, String> {
        let document = text.replace('\'', "\"").replace("DIGEST", DIGEST);
        parse(document.as_bytes(), content_type).map_err(|e| e.message)
    }

    #[test]
    fn an_image_names_its_blobs_but_not_those_that_lie_elsewhere() {
        let manifest = read(
            "{'schemaVersion':2,'config':{'mediaType':'a/b','digest':'DIGEST','size':3},'layers':[
              {'mediaType':'application/vnd.oci.image.layer.v1.tar','digest':'DIGEST','size':4},
              {'mediaType':'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip','digest':'DIGEST','size':5}],
              'subject':{'digest':'DIGEST','size':1},'annotations':{'x':'y'}}",
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        );
        let manifest = manifest.unwrap();
        assert_eq!(manifest.targets.iter().map(|t| t.size_bytes).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(manifest.subject.as_deref(), Some(DIGEST));
        assert_eq!(manifest.artifact_type.as_deref(), Some("a/b"));
        assert_eq!(manifest.media_type, OCI_MANIFEST);
    }

    #[test]
    fn an_index_names_manifests_and_has_no_type_of_its_own() {
        let text = "{'schemaVersion':2,'manifests':[{'digest':'DIGEST','size':3}]}";
        let manifest = read(text, OCI_INDEX).unwrap();
        assert!(manifest.targets[0].is_manifest && manifest.artifact_type.is_none());
        assert_eq!(read(text, "").unwrap().media_type, OCI_INDEX);
    }

    #[test]
    fn what_is_not_one_thing_is_refused() {
        let image = "'config':{'digest':'DIGEST','size':1},'layers':[]";
        for (document, content_type, named) in [
            ("", "", "EOF"),
            ("{'schemaVersion':1,'fsLayers':[]}", "", "schema 1"),
            ("{'schemaVersion':2}", "", "neither"),
            (&format!("{{'schemaVersion':2,{image},'manifests':[]}}"), "", "at once"),
            (&format!("{{'schemaVersion':2,{image}}}"), OCI_INDEX, "media type"),
            (&format!("{{'schemaVersion':2,'mediaType':'{OCI_INDEX}',{image}}}"), OCI_MANIFEST, "Content-Type"),
            (&format!("{{'schemaVersion':2,'schemaVersion':2,{image}}}"), "", "duplicate"),
            (&format!("{{'schemaVersion':2,{image}}}"), "text/html", "not the media type"),
            ("{'schemaVersion':2,'config':{'digest':'sha256:../x','size':1}}", "", "invalid digest"),
            ("{'schemaVersion':2,'config':{'digest':'DIGEST','size':-1}}", "", "invalid value"),
        ] {
            let refusal = read(document, content_type).unwrap_err();
            assert!(refusal.contains(named), "{document}: {refusal}");
        }
    }
}
