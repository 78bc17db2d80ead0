//! Archives from before Docker 1.10: `repositories`, and per layer a directory with `json` and `layer.tar`.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

use super::archive::Archive;
use super::{Found, check_runs_here, merge, tag_of};
use crate::ingest::ImageDraft;
use crate::manifest::MEDIA_DOCKER_CONFIG;
use crate::{Error, config};

const CHAIN_MAX: usize = 1024;
/// What a layer's own json says about itself, no part of an image's config.
const LAYER_KEYS: [&str; 6] = ["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

pub(super) fn images(archive: &Archive) -> Result<Vec<Found>, Error> {
    let repositories: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(archive.document("repositories")?)
            .map_err(|e| Error::Invalid(format!("invalid repositories file: {e}")))?;
    let mut found = Vec::new();
    for (repository, tags) in repositories {
        for (tag, top) in tags {
            let config = convert(archive, &top)?;
            check_runs_here(&config::parse(&config)?)?;
            let draft = ImageDraft {
                config,
                config_media_type: MEDIA_DOCKER_CONFIG.to_owned(),
                manifests: Vec::new(),
                sources: Vec::new(),
                names: vec![tag_of(&format!("{repository}:{tag}"))?],
                parent: None,
                tagged_ns: 0,
                made_here: false,
            };
            found.push(Found { draft });
        }
    }
    Ok(merge(found))
}

/// Makes the config document that the chain of layers from `top` down to its last parent amounts to.
fn convert(archive: &Archive, top: &str) -> Result<Vec<u8>, Error> {
    let mut chain = Vec::new();
    let mut seen = HashSet::new();
    let mut next = Some(top.to_owned());
    while let Some(id) = next {
        if chain.len() >= CHAIN_MAX || !seen.insert(id.clone()) {
            return Err(Error::Invalid(format!("invalid archive: the parents of {top} do not end")));
        }
        let layer: Map<String, Value> = serde_json::from_slice(archive.document(&format!("{id}/json"))?)
            .map_err(|e| Error::Invalid(format!("invalid archive: {id}/json: {e}")))?;
        next = text(&layer, "parent");
        chain.push((id, layer));
    }
    let mut diff_ids = Vec::new();
    let mut history = Vec::new();
    for (id, layer) in chain.iter().rev() {
        diff_ids.push(archive.layer(&format!("{id}/layer.tar"))?.diff_id.clone());
        history.push(step_of(layer));
    }
    let mut document = chain.swap_remove(0).1;
    document.retain(|key, _| !LAYER_KEYS.contains(&key.as_str()));
    document.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    document.insert("history".to_owned(), Value::Array(history));
    serde_json::to_vec(&document).map_err(|e| Error::Other(format!("image config: {e}")))
}

fn step_of(layer: &Map<String, Value>) -> Value {
    let mut step = Map::new();
    for key in ["created", "author", "comment"] {
        if let Some(value) = text(layer, key) {
            step.insert(key.to_owned(), value.into());
        }
    }
    let command = layer.get("container_config").and_then(|config| config.get("Cmd")).and_then(Value::as_array);
    if let Some(words) = command {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        step.insert("created_by".to_owned(), words.join(" ").into());
    }
    Value::Object(step)
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}
