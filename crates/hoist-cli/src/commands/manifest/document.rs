//! One image's manifest with what is known about it: the form in which pending lists keep it and `inspect -v` prints it,
//! which is Docker's.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hoist_api::manifest::{Descriptor, FetchedManifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::format::json;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageManifest {
    #[serde(rename = "Ref")]
    pub(super) reference: String,
    pub(super) descriptor: Descriptor,
    /// The document as the registry has it, in base64; older clients did not keep it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) raw: String,
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    docker: Option<Box<RawValue>>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<Box<RawValue>>,
}

impl ImageManifest {
    /// Of what the engine fetched.
    pub(super) fn of(fetched: FetchedManifest) -> Result<Self, String> {
        let FetchedManifest { reference, descriptor, raw } = fetched;
        let broken = |why: String| format!("{reference}: the engine's answer is broken: {why}");
        let bytes = BASE64_STANDARD.decode(&raw).map_err(|why| broken(why.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|why| broken(why.to_string()))?;
        let document = RawValue::from_string(text).map_err(|why| broken(why.to_string()))?;
        let is_docker = descriptor.media_type == DOCKER_MANIFEST;
        let (docker, oci) = if is_docker { (Some(document), None) } else { (None, Some(document)) };
        Ok(Self { reference, descriptor, raw, docker, oci })
    }

    /// Of a file of a pending list.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        if read.descriptor.digest.is_empty() {
            return Err("it has no digest: remove the list and create it again".to_owned());
        }
        Ok(read)
    }

    /// On one line, as files have it.
    pub(super) fn compact(&self) -> Result<String, String> {
        let text = serde_json::to_string(self).map_err(|why| why.to_string())?;
        Ok(json::escape_html(&json::compact(&text)))
    }

    /// The manifest alone, as text.
    pub(super) fn payload(&self) -> Result<&str, String> {
        let document = self.docker.as_ref().or(self.oci.as_ref());
        document.map(|document| document.get()).ok_or_else(|| format!("{} has no payload", self.reference))
    }

    /// The manifest's bytes in base64 for a registry. Of those that were not kept, the usual indentation is tried: the
    /// engine compares the digest.
    pub(super) fn raw(&self) -> Result<String, String> {
        if !self.raw.is_empty() {
            return Ok(self.raw.clone());
        }
        let unit = if self.docker.is_some() { "   " } else { "  " };
        Ok(BASE64_STANDARD.encode(json::indent(self.payload()?, unit)))
    }

    /// Digests of its config and layers.
    pub(super) fn blobs(&self) -> Result<Vec<String>, String> {
        let document: Value = serde_json::from_str(self.payload()?).map_err(|why| why.to_string())?;
        let layers = document["layers"].as_array().into_iter().flatten();
        let digests = std::iter::once(&document["config"]).chain(layers).filter_map(|blob| blob["digest"].as_str());
        Ok(digests.map(str::to_owned).collect())
    }
}

/// For the fuzzers: a file of a pending list, and all that is made of it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read(bytes: &[u8]) {
    let Ok(manifest) = ImageManifest::parse(bytes) else { return };
    let _ = (manifest.payload(), manifest.raw(), manifest.blobs());
    let written = manifest.compact().unwrap_or_default();
    let again = ImageManifest::parse(written.as_bytes()).and_then(|manifest| manifest.compact());
    assert_eq!(again, Ok(written), "what was written is read the same");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_wrote_is_kept_as_it_is() {
        let text = concat!(
            r#"{"Ref":"r.lan/a:1","Descriptor":{"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""digest":"sha256:00","size":3,"platform":{"architecture":"amd64","os":"linux","os.version":"1"}},"#,
            r#""Raw":"e30=","OCIManifest":{"config":{"digest":"sha256:c"},"layers":[{"digest":"sha256:l"}],"#,
            r#""annotations":{"a\u003c":"b \u0026 c"}}}"#
        );
        let manifest = ImageManifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.compact().unwrap(), text);
        assert_eq!(manifest.blobs().unwrap(), ["sha256:c", "sha256:l"]);
        assert!(ImageManifest::parse(b"{\"Ref\":\"a\",\"Descriptor\":{}}").unwrap_err().contains("no digest"));
    }
}
