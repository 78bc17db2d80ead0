//! Archives with `manifest.json`: `docker save` since 1.10, `skopeo copy … docker-archive:`, podman, bazel, nix, ko.

use serde::Deserialize;

use super::archive::Archive;
use super::{Found, check_layers, check_runs_here, merge, tag_of};
use crate::ingest::ImageDraft;
use crate::manifest::MEDIA_DOCKER_CONFIG;
use crate::{Error, config};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default)]
    parent: Option<String>,
}

pub(super) fn images(archive: &Archive) -> Result<Vec<Found>, Error> {
    let bytes = archive.document("manifest.json")?;
    let items: Vec<Item> =
        serde_json::from_slice(bytes).map_err(|e| Error::Invalid(format!("invalid manifest.json: {e}")))?;
    let mut found = Vec::new();
    for item in items {
        let config = archive.document(&item.config)?.to_vec();
        let document = config::parse(&config)?;
        check_runs_here(&document)?;
        check_layers(archive, &document, &item.layers.unwrap_or_default())?;
        let tags = item.repo_tags.unwrap_or_default();
        let draft = ImageDraft {
            config,
            config_media_type: MEDIA_DOCKER_CONFIG.to_owned(),
            manifests: Vec::new(),
            names: tags.iter().map(|tag| tag_of(tag)).collect::<Result<_, _>>()?,
            parent: item.parent.filter(|parent| crate::digest::hex_of(parent).is_ok()),
            tagged_ns: 0,
        };
        found.push(Found { draft });
    }
    Ok(merge(found))
}
