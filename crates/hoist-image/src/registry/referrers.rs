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

/// A manifest that a list says is about another one. It need not be there.
#[derive(Debug)]
pub(crate) struct Referring {
    pub(crate) digest: String,
    /// Whether the list tells its type, which is the one that was asked for.
    pub(crate) is_typed: bool,
}

impl Repository {
    /// The referrers of this type, then those whose type the list does not tell, of the first page. A registry without that
    /// API is asked for the tag that clients keep there instead.
    pub(crate) async fn referrers(&self, subject: &str, artifact_type: &str) -> Result<Vec<Referring>, Failure> {
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
        // A digest that cannot be fetched here is somebody else's business.
        let fitting = index.manifests.into_iter().filter(|entry| fits(entry) && digest::hex_of(&entry.digest).is_ok());
        let referring =
            |entry: Referrer| Referring { is_typed: entry.artifact_type == artifact_type, digest: entry.digest };
        let mut found: Vec<Referring> = fitting.map(referring).collect();
        found.sort_by_key(|entry| !entry.is_typed);
        Ok(found)
    }
}
