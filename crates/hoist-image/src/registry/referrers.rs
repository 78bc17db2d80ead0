//! Manifests that are about another one (distribution-spec "Listing Referrers").

use hyper::Method;
use serde::Deserialize;

use super::client::Repository;
use super::error::Failure;
use super::transport::document;
use crate::{digest, manifest};

/// What clients write for the type into the list that they keep themselves when they look at the config alone (cosign 3).
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    digest: String,
    #[serde(default)]
    artifact_type: String,
}

impl Repository {
    /// Digests of the referrers of this type, and of those whose type the list does not tell, of the first page. A registry
    /// without that API is asked for the tag that clients keep there instead.
    pub(crate) async fn referrers(&self, subject: &str, artifact_type: &str) -> Result<Vec<String>, Failure> {
        let bytes = match self.request(Method::GET, &format!("referrers/{subject}"), &[]).await {
            Ok(answer) => {
                let bytes = document(answer.into_body(), manifest::DOCUMENT_MAX_BYTES).await;
                bytes.map_err(Failure::Unreachable)?
            }
            Err(failure) if failure.is_not_found() => match self.manifest(&subject.replace(':', "-")).await {
                Ok(index) => index.bytes,
                Err(failure) if failure.is_not_found() => return Ok(Vec::new()),
                Err(failure) => return Err(failure),
            },
            Err(failure) => return Err(failure),
        };
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|e| Failure::Broken(format!("invalid list of referrers: {e}")))?;
        let fits = |entry: &Referrer| ["", EMPTY, artifact_type].contains(&entry.artifact_type.as_str());
        let fitting = index.manifests.into_iter().filter(fits);
        let digests: Vec<String> = fitting.map(|entry| entry.digest).collect();
        for one in &digests {
            digest::hex_of(one).map_err(|e| Failure::Broken(format!("invalid list of referrers: {e}")))?;
        }
        Ok(digests)
    }
}
