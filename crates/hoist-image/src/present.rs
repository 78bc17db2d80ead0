//! What is known and what is here of the manifests by which an image came: an index may name images for other platforms,
//! which were not fetched, and attestations.

use std::sync::Arc;

use hoist_api::manifest::{DescribedPlatform, Descriptor};

use crate::manifest::{self, Manifest};
use crate::registry::FetchedManifest;
use crate::{Error, Image, Shared, Store, digest, records};

const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ATTESTATION: &str = "attestation-manifest";

/// A manifest that an image's documents name.
#[derive(Clone, Debug)]
pub struct KnownManifest {
    pub descriptor: Descriptor,
    /// Bytes of its documents here; layers are not kept in the form in which they came.
    pub content_bytes: u64,
    pub kind: KnownKind,
}

/// What a manifest is of.
#[derive(Clone, Debug)]
pub enum KnownKind {
    /// An image for a platform, and if it is here, which.
    Image {
        platform: DescribedPlatform,
        image: Option<Arc<Image>>,
    },
    /// A statement about the manifest with this digest.
    Attestation(String),
    Unknown,
}

impl Store {
    /// The manifests by which an image came, each once: those of its indexes in their order, then others. Images that came
    /// without a manifest have none. Blocking.
    pub fn known_manifests(&self, image: &Image) -> Result<Vec<KnownManifest>, Error> {
        let (mut indexed, mut single) = (Vec::new(), Vec::new());
        for (digest, media_type) in records::image_blobs(&self.shared.db, &image.id)? {
            if digest == image.id {
                continue;
            }
            let Some(found) = self.shared.manifest_here(&digest)? else { continue };
            let size = found.bytes.len() as u64;
            match manifest::parse(&found.bytes, &media_type).and_then(|parsed| entries_of(&parsed, &found.bytes)) {
                Ok(Some(entries)) => indexed.extend(entries),
                Ok(None) => single.push(Descriptor { media_type, digest, size, ..Descriptor::default() }),
                Err(e) => {
                    tracing::warn!(image = %image.id, %digest, error = %e, "a manifest of the image is not shown")
                }
            }
        }
        let mut known: Vec<KnownManifest> = Vec::new();
        for descriptor in indexed.into_iter().chain(single) {
            if known.iter().all(|other| other.descriptor.digest != descriptor.digest) {
                known.push(self.known_manifest(descriptor)?);
            }
        }
        Ok(known)
    }

    fn known_manifest(&self, descriptor: Descriptor) -> Result<KnownManifest, Error> {
        let annotation = |key: &str| descriptor.annotations.get(key).cloned().unwrap_or_default();
        if annotation(REFERENCE_TYPE) == ATTESTATION {
            let about = annotation(REFERENCE_DIGEST);
            let valid = digest::hex_of(&about).is_ok();
            let kind = if valid { KnownKind::Attestation(about) } else { KnownKind::Unknown };
            return Ok(KnownManifest { descriptor, content_bytes: 0, kind });
        }
        let here = self.image_of_manifest(&descriptor)?;
        let content_bytes = here.as_ref().map_or(0, |(_, bytes)| *bytes);
        let image = here.map(|(image, _)| image);
        let said = |image: &Image| DescribedPlatform {
            architecture: image.architecture.clone(),
            os: image.os.clone(),
            variant: image.variant.clone(),
            ..DescribedPlatform::default()
        };
        let platform = descriptor.platform.clone().or_else(|| image.as_deref().map(said));
        let kind = match platform {
            Some(platform) => KnownKind::Image { platform, image },
            None => KnownKind::Unknown,
        };
        Ok(KnownManifest { descriptor, content_bytes, kind })
    }

    /// The image that a manifest which is here leads to, and the bytes of its documents.
    fn image_of_manifest(&self, descriptor: &Descriptor) -> Result<Option<(Arc<Image>, u64)>, Error> {
        let Some(found) = self.shared.manifest_here(&descriptor.digest)? else { return Ok(None) };
        // Whoever wrote the list may call it something that it is not.
        let Ok(Manifest::Image(parsed)) = manifest::parse(&found.bytes, &descriptor.media_type) else {
            return Ok(None);
        };
        let image = self.shared.index().by_id(&parsed.config.digest);
        Ok(image.map(|image| (image, found.bytes.len() as u64 + parsed.config.size)))
    }
}

impl Shared {
    /// A manifest that is here; a damaged one is not, which is logged. Blocking.
    pub(crate) fn manifest_here(&self, digest: &str) -> Result<Option<FetchedManifest>, Error> {
        let Some(media_type) = records::media_type(&self.db, digest)? else { return Ok(None) };
        match self.disk.blobs.read(digest) {
            Ok(bytes) => Ok(Some(FetchedManifest { digest: digest.to_owned(), media_type, bytes })),
            Err(e) => {
                tracing::warn!(%digest, error = %e, "a manifest is not taken from here");
                Ok(None)
            }
        }
    }
}

/// What an index names; nothing for an image's manifest.
fn entries_of(parsed: &Manifest, bytes: &[u8]) -> Result<Option<Vec<Descriptor>>, Error> {
    match parsed {
        Manifest::Index(_) => manifest::entries(bytes).map(Some),
        Manifest::Image(_) => Ok(None),
    }
}
