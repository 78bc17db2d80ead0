//! Finding the signatures that lie beside an image in its repository.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Evidence, bundle, simple};
use crate::manifest::Descriptor;
use crate::registry::{Failure, FetchedManifest, Repository};

/// Signatures looked at, at most, in either form.
const SIGNATURES_MAX: usize = 50;

/// A manifest as far as signatures need it; a key given twice is an error.
#[derive(Deserialize)]
struct Carrier {
    #[serde(default)]
    layers: Vec<SignedLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedLayer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl SignedLayer {
    fn descriptor(&self) -> Descriptor {
        let (media_type, digest) = (self.media_type.clone(), self.digest.clone());
        Descriptor { media_type, digest, size: self.size, ..Descriptor::default() }
    }
}

/// All signatures of a manifest, those that cannot be read with the reason why. What the registry does not have is none;
/// what it fails to give is a failure.
pub(super) async fn signatures(
    repository: &Repository,
    manifest: &FetchedManifest,
) -> Result<Vec<Result<Evidence, String>>, Failure> {
    let mut found = Vec::new();
    let tag = format!("{}.sig", manifest.digest.replace(':', "-"));
    if let Some(carrier) = known(repository.manifest(&tag).await)? {
        for layer in layers(&carrier, simple::MEDIA_TYPE)? {
            let payload = repository.config(&layer.descriptor()).await?;
            found.push(simple::read(&layer.annotations, &payload));
        }
    }
    for referrer in repository.referrers(&manifest.digest, bundle::MEDIA_TYPE).await?.into_iter().take(SIGNATURES_MAX) {
        // A list that clients keep themselves may name what is gone.
        let Some(carrier) = known(repository.manifest(&referrer.digest).await)? else { continue };
        let layers = match layers(&carrier, bundle::MEDIA_TYPE) {
            Ok(layers) => layers,
            // Anything may be about the image.
            Err(failure) if !referrer.is_typed => {
                found.push(Err(failure.to_string()));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        for layer in layers {
            let Some(bytes) = known(repository.config(&layer.descriptor()).await)? else { continue };
            found.push(bundle::read(&bytes, &manifest.bytes));
        }
    }
    Ok(found)
}

fn layers(carrier: &FetchedManifest, media_type: &str) -> Result<Vec<SignedLayer>, Failure> {
    let broken = |e| Failure::Broken(format!("signature manifest {}: {e}", carrier.digest));
    let read: Carrier = serde_json::from_slice(&carrier.bytes).map_err(broken)?;
    let fitting = read.layers.into_iter().filter(|layer| layer.media_type == media_type);
    Ok(fitting.take(SIGNATURES_MAX).collect())
}

fn known<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}
