//! Manifests of a push: those an image came by, sent again byte for byte if their blobs can be had, and new ones.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Placed;
use super::plan::is_foreign;
use crate::manifest::{
    self, Descriptor, ImageManifest, MEDIA_DOCKER_CONFIG, MEDIA_DOCKER_LAYER, MEDIA_DOCKER_MANIFEST, MEDIA_OCI_LAYER,
    MEDIA_OCI_MANIFEST, Manifest,
};
use crate::{Error, Image, Shared, digest, records};

/// A manifest as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

/// A manifest that an image came by.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) document: Document,
    parsed: ImageManifest,
}

/// The manifests that an image came by; first the one by which the repository itself knows it.
pub(super) fn kept(shared: &Arc<Shared>, image: &Image, repository: &str) -> Result<Vec<Kept>, Error> {
    let mut found = Vec::new();
    for (digest, media_type) in records::image_blobs(&shared.db, &image.id)? {
        if digest == image.id {
            continue;
        }
        let bytes = match shared.disk.blobs.read(&digest) {
            Ok(bytes) => bytes,
            Err(e) => {
                tracing::warn!(image = %image.id, error = %e, "a manifest cannot be pushed again");
                continue;
            }
        };
        // Kept as it came: what was an image manifest then is one now.
        let Ok(Manifest::Image(parsed)) = manifest::parse(&bytes, &media_type) else { continue };
        if parsed.config.digest == image.id && parsed.layers.len() == image.diff_ids.len() {
            let media_type = media_type_of(&media_type, &bytes, &parsed);
            found.push(Kept { document: Document { digest, media_type, bytes }, parsed });
        }
    }
    let references = shared.index().references(&image.id);
    let known_there = |kept: &Kept| {
        let digest = Some(kept.document.digest.as_str());
        references.iter().any(|reference| reference.name() == repository && reference.digest.as_deref() == digest)
    };
    found.sort_by_cached_key(|kept| (!known_there(kept), kept.document.digest.clone()));
    Ok(found)
}

fn media_type_of(stored: &str, bytes: &[u8], parsed: &ImageManifest) -> String {
    if manifest::is_image_type(stored) {
        return stored.to_owned();
    }
    let said = serde_json::from_slice::<Value>(bytes).ok();
    let said = said.as_ref().and_then(|value| value["mediaType"].as_str()).filter(|said| manifest::is_image_type(said));
    match said {
        Some(said) => said.to_owned(),
        None if parsed.config.media_type == MEDIA_DOCKER_CONFIG => MEDIA_DOCKER_MANIFEST.to_owned(),
        None => MEDIA_OCI_MANIFEST.to_owned(),
    }
}

impl Kept {
    /// Each diff id with the blob that stands for it here.
    pub(super) fn layers(&self, image: &Image) -> impl Iterator<Item = (String, Descriptor)> {
        image.diff_ids.iter().cloned().zip(self.parsed.layers.iter().cloned())
    }

    /// The layer's entry if it is one that must not be sent.
    pub(super) fn foreign(&self, image: &Image, diff_id: &str) -> Option<Descriptor> {
        self.layers(image).find(|(id, descriptor)| id == diff_id && is_foreign(descriptor)).map(|(_, found)| found)
    }
}

/// A manifest with the layers as they are at the target. What an earlier one says besides stays: annotations, the type of
/// an artifact, the subject.
pub(super) fn write(
    image: &Image,
    kept: Option<&Kept>,
    config_bytes: usize,
    placed: &HashMap<String, Placed>,
) -> Result<Document, Error> {
    let before: Option<Value> = kept.and_then(|kept| serde_json::from_slice(&kept.document.bytes).ok());
    let media_type = kept.map_or(MEDIA_DOCKER_MANIFEST, |kept| kept.document.media_type.as_str());
    let layer_type = if media_type == MEDIA_OCI_MANIFEST { MEDIA_OCI_LAYER } else { MEDIA_DOCKER_LAYER };
    let mut layers = Vec::new();
    for (position, diff_id) in image.diff_ids.iter().enumerate() {
        let missing = || Error::Other(format!("layer {diff_id} is missing"));
        let Descriptor { digest, size, .. } = &placed.get(diff_id).ok_or_else(missing)?.descriptor;
        let same = before.as_ref().map(|before| &before["layers"][position]);
        match same.filter(|same| same["digest"].as_str() == Some(digest)) {
            Some(same) => layers.push(same.clone()),
            None => layers.push(json!({ "mediaType": layer_type, "size": size, "digest": digest })),
        }
    }
    let document = match before {
        Some(mut before) => {
            before["layers"] = layers.into();
            before
        }
        None => json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": { "mediaType": MEDIA_DOCKER_CONFIG, "size": config_bytes, "digest": image.id },
            "layers": layers,
        }),
    };
    let bytes = pretty(&document).map_err(|e| Error::Other(format!("image manifest: {e}")))?;
    Ok(Document { digest: digest::of_bytes(&bytes), media_type: media_type.to_owned(), bytes })
}

/// With dockerd's indentation: the same blobs then give the same digest there and here.
fn pretty(value: &Value) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(bytes)
}
