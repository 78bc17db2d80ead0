//! Archives with `manifest.json`: `docker save` since 1.10, `skopeo copy … docker-archive:`, podman, bazel, nix, ko.

use std::collections::HashMap;

use serde::Deserialize;

use super::archive::Archive;
use super::{Found, check_layers, check_runs_here, merge, tag_of};
use crate::ingest::ImageDraft;
use crate::manifest::MEDIA_DOCKER_CONFIG;
use crate::{Error, config, digest};

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
            sources: Vec::new(),
            names: tags.iter().map(|tag| tag_of(tag)).collect::<Result<_, _>>()?,
            parent: item.parent,
            tagged_ns: 0,
            made_here: false,
        };
        found.push(Found { draft });
    }
    let mut found = merge(found);
    check_parents(&mut found)?;
    Ok(found)
}

/// Takes a parent for what it says only if it is in the archive and its history is all of the child's but the last
/// step, which is Docker's rule. Parents in a circle, or an image that is its own, could never be removed again.
fn check_parents(found: &mut [Found]) -> Result<(), Error> {
    let mut histories = HashMap::new();
    for image in found.iter() {
        histories.insert(digest::of_bytes(&image.draft.config), config::parse(&image.draft.config)?.history.len());
    }
    for image in found.iter_mut() {
        let own = histories.get(&digest::of_bytes(&image.draft.config)).copied();
        let fits = |parent: &String| histories.get(parent).map(|steps| steps + 1) == own;
        image.draft.parent = image.draft.parent.take().filter(fits);
    }
    Ok(())
}
