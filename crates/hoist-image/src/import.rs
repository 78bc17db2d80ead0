//! Images that come as plain root filesystems: `docker import`, and those built into the binary.

use std::io::Read;
use std::sync::Arc;

use hoist_api::image::ContainerConfig;
use hoist_api::reference::Reference;
use serde_json::json;

use crate::ingest::{ImageDraft, Ingest};
use crate::manifest::MEDIA_DOCKER_CONFIG;
use crate::signature::local::Source;
use crate::unpack::Whiteouts;
use crate::{Digest, Error, Platform, Shared, Store, config, digest, tags};

impl Store {
    /// `docker import`: a root filesystem tar becomes an image of one layer. Returns its id. Blocking.
    pub fn import(
        &self,
        tar: &mut dyn Read,
        reference: Option<&Reference>,
        config: &ContainerConfig,
        message: &str,
        platform: Option<&Platform>,
    ) -> Result<Digest, Error> {
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        if platform.os != "linux" {
            return Err(Error::Invalid(format!(
                "image operating system {:?} cannot be used on this platform",
                platform.os
            )));
        }
        let names = reference.map(|r| vec![r.clone().with_default_tag()]).unwrap_or_default();
        names.iter().try_for_each(tags::check_name)?;
        self.check_arrival(Source::Tarball, "", &names)?;
        let ingest = Ingest::begin(&self.shared)?;
        let layer = ingest.unpack(tar, Whiteouts::Plain)?;
        let now = jiff::Timestamp::now().to_string();
        let mut document = json!({
            "architecture": platform.architecture,
            "config": config,
            "created": now,
            "history": [{ "created": now, "comment": message }],
            "os": platform.os,
            "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
        });
        if !platform.variant.is_empty() {
            document["variant"] = platform.variant.into();
        }
        let config = serde_json::to_vec(&document).map_err(|e| Error::Other(format!("image config: {e}")))?;
        let id = digest::of_bytes(&config);
        ingest.keep(layer);
        let tagged_ns = if names.is_empty() { 0 } else { crate::now_ns() };
        ingest.commit(&[ImageDraft { tagged_ns, ..draft(config, names) }])?;
        Ok(id)
    }
}

pub(crate) fn install(
    shared: &Arc<Shared>,
    reference: &Reference,
    config_json: &[u8],
    layers_tar: &[&[u8]],
) -> Result<Digest, Error> {
    let document = config::parse(config_json)?;
    if document.diff_ids.len() != layers_tar.len() {
        let (given, wanted) = (layers_tar.len(), document.diff_ids.len());
        return Err(Error::Invalid(format!("{given} layers given, the image config names {wanted}")));
    }
    let ingest = Ingest::begin(shared)?;
    for (diff_id, tar) in document.diff_ids.iter().zip(layers_tar) {
        if ingest.hold_existing(diff_id) {
            continue;
        }
        let layer = ingest.unpack(*tar, Whiteouts::Overlay)?;
        if layer.diff_id != *diff_id {
            return Err(Error::Invalid(format!(
                "layer has diff id {}, the image config says {diff_id}",
                layer.diff_id
            )));
        }
        ingest.keep(layer);
    }
    ingest.commit(&[draft(config_json.to_vec(), vec![reference.clone().with_default_tag()])])?;
    Ok(digest::of_bytes(config_json))
}

/// An image that is made here.
pub(crate) fn draft(config: Vec<u8>, names: Vec<Reference>) -> ImageDraft {
    let config_media_type = MEDIA_DOCKER_CONFIG.to_owned();
    let (manifests, sources) = (Vec::new(), Vec::new());
    ImageDraft { config, config_media_type, manifests, sources, names, parent: None, tagged_ns: 0, made_here: true }
}
