//! Manifests of images, at registries and here, and what images have that others have not: the store's answers in the API's
//! shapes.

use std::collections::HashMap;

use hoist_api::container::Change;
use hoist_api::image::{AttestationData, ImageData, Inspect, ManifestSize, ManifestSummary, Summary, Unpacked};
use hoist_api::manifest::Mount;
use hoist_api::reference::Reference;
use hoist_image::{KnownKind, KnownManifest, RemoteAccess, RemoteManifests};

use crate::error::{Result, Translate};
use crate::images::Images;

impl Images {
    /// The manifests behind a reference at its registry.
    pub async fn remote_manifests(&self, reference: &Reference, access: &RemoteAccess) -> Result<RemoteManifests> {
        self.store().remote_manifests(reference, access).await.api()
    }

    /// Puts a manifest to a registry; returns its digest.
    pub async fn put_remote_manifest(
        &self,
        reference: &Reference,
        document: (&str, &[u8]),
        mounts: &[Mount],
        access: &RemoteAccess,
    ) -> Result<String> {
        self.store().put_remote_manifest(reference, document, mounts, access).await.api()
    }

    /// What an image has otherwise than another, or its uppermost layer than those below. Blocking.
    pub fn changes(&self, name: &str, against: Option<&str>) -> Result<Vec<Change>> {
        let image = self.store().get(name).api()?;
        let other = against.map(|name| self.store().get(name).api()).transpose()?;
        self.store().image_changes(&image, other.as_deref()).api()
    }

    /// Adds to each image the manifests by which it came. Blocking.
    pub fn add_manifests(&self, images: &mut [Summary]) -> Result<()> {
        let users = self.containers_by_image();
        for item in images {
            item.manifests = self.manifests_of(&item.id, &users)?;
        }
        Ok(())
    }

    /// The same for one that is inspected.
    pub fn add_manifests_to(&self, image: &mut Inspect) -> Result<()> {
        image.manifests = self.manifests_of(&image.id, &self.containers_by_image())?;
        Ok(())
    }

    fn manifests_of(&self, id: &str, users: &HashMap<String, Vec<String>>) -> Result<Vec<ManifestSummary>> {
        // Removed meanwhile: there is nothing to tell.
        let Ok(image) = self.store().get(id) else { return Ok(Vec::new()) };
        let known = self.store().known_manifests(&image).api()?;
        Ok(known.into_iter().map(|manifest| summary(manifest, users)).collect())
    }

    fn containers_by_image(&self) -> HashMap<String, Vec<String>> {
        let mut users: HashMap<String, Vec<String>> = HashMap::new();
        for record in self.container_records() {
            users.entry(record.fixed.image_id.clone()).or_default().push(record.id().to_owned());
        }
        users
    }
}

fn summary(known: KnownManifest, users: &HashMap<String, Vec<String>>) -> ManifestSummary {
    let KnownManifest { descriptor, content_bytes, kind } = known;
    let mut summary = ManifestSummary {
        id: descriptor.digest.clone(),
        descriptor,
        size: ManifestSize { content: content_bytes, total: content_bytes },
        kind: "unknown".to_owned(),
        ..ManifestSummary::default()
    };
    match kind {
        KnownKind::Unknown => {}
        KnownKind::Attestation(about) => {
            summary.kind = "attestation".to_owned();
            summary.attestation_data = Some(AttestationData { about });
        }
        KnownKind::Image { platform, image } => {
            let unpacked = image.as_ref().map_or(0, |image| image.size_bytes);
            let containers = image.as_ref().and_then(|image| users.get(&image.id)).cloned().unwrap_or_default();
            summary.kind = "image".to_owned();
            summary.available = image.is_some();
            summary.size.total += unpacked;
            summary.image_data = Some(ImageData { platform, containers, size: Unpacked { unpacked } });
        }
    }
    summary
}
