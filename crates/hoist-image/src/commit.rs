//! A new layer on top of an image: what `commit` makes of a container.

use std::collections::HashSet;
use std::io::Read;

use hoist_api::reference::Reference;
use serde_json::{Map, Value, json};

use crate::import::draft;
use crate::ingest::{ImageDraft, Ingest};
use crate::unpack::Whiteouts;
use crate::{Digest, Error, Image, Platform, Store, digest, tags};

/// The digest of a tar without entries: a commit of nothing adds no layer.
const EMPTY_TAR: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// What the new image says about itself.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The `config` object: defaults for containers.
    pub config: Value,
    /// The container it was made of, as image configs name it.
    pub container: String,
    pub container_config: Value,
    pub docker_version: String,
    pub author: String,
    pub comment: String,
    /// The command that made the change.
    pub created_by: String,
}

impl Store {
    /// Makes an image of `base` (none: of nothing) and the layer in `tar`, which is read once, to its end. Returns its id.
    /// Blocking.
    pub fn commit(
        &self,
        base: Option<&Image>,
        tar: &mut dyn Read,
        commit: &Commit,
        reference: Option<&Reference>,
    ) -> Result<Digest, Error> {
        reference.map_or(Ok(()), tags::check_name)?;
        let ingest = Ingest::begin(&self.shared)?;
        let mut diff_ids = base.map(|image| image.diff_ids.clone()).unwrap_or_default();
        if let Some(gone) = diff_ids.iter().find(|id| !ingest.hold_existing(id)) {
            return Err(Error::Other(format!("layer {gone} of the image below was removed meanwhile")));
        }
        let layer = ingest.unpack(tar, Whiteouts::Overlay)?;
        let is_empty = layer.diff_id == EMPTY_TAR;
        if is_empty {
            ingest.discard(&layer);
        } else {
            diff_ids.push(layer.diff_id.clone());
            ingest.keep(layer);
        }
        let document = document(base, commit, &diff_ids, is_empty);
        let config = serde_json::to_vec(&document).map_err(|e| Error::Other(format!("image config: {e}")))?;
        let id = digest::of_bytes(&config);
        let names: Vec<Reference> = reference.map(|r| r.clone().with_default_tag()).into_iter().collect();
        let tagged_ns = if names.is_empty() { 0 } else { crate::now_ns() };
        let parent = base.map(|image| image.id.clone());
        ingest.commit(&[ImageDraft { parent, tagged_ns, ..draft(config, names) }])?;
        Ok(id)
    }

    /// The image below, for one that was committed here.
    pub fn parent(&self, image: &Image) -> Option<Digest> {
        self.shared.index().parent(&image.id).map(str::to_owned)
    }

    /// The ids of the images of which others were made here.
    pub fn parents(&self) -> HashSet<Digest> {
        self.shared.index().parents()
    }
}

/// The config document: the history and the platform are those of the image below.
fn document(base: Option<&Image>, commit: &Commit, diff_ids: &[String], is_empty: bool) -> Value {
    let now = jiff::Timestamp::now().to_string();
    let below = |key: &str| base.map_or(&Value::Null, |image| &image.document[key]);
    let mut step = Map::new();
    step.insert("created".to_owned(), now.as_str().into());
    for (key, text) in [("created_by", &commit.created_by), ("author", &commit.author), ("comment", &commit.comment)] {
        if !text.is_empty() {
            step.insert(key.to_owned(), text.as_str().into());
        }
    }
    if is_empty {
        step.insert("empty_layer".to_owned(), true.into());
    }
    let mut history = below("history").as_array().cloned().unwrap_or_default();
    history.push(step.into());

    let host = Platform::host();
    let mut document = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() && value != "" {
            document.insert(key.to_owned(), value);
        }
    };
    put("architecture", base.map_or(host.architecture, |image| image.architecture.clone()).into());
    put("author", commit.author.as_str().into());
    put("comment", commit.comment.as_str().into());
    put("config", commit.config.clone());
    put("container", commit.container.as_str().into());
    put("container_config", commit.container_config.clone());
    put("created", now.into());
    put("docker_version", commit.docker_version.as_str().into());
    put("history", history.into());
    put("os", base.map_or(host.os, |image| image.os.clone()).into());
    put("os.features", below("os.features").clone());
    put("os.version", below("os.version").clone());
    put("rootfs", json!({ "type": "layers", "diff_ids": diff_ids }));
    put("variant", base.map_or(host.variant, |image| image.variant.clone()).into());
    document.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_goes_on_where_the_image_below_ended() {
        let base = Image {
            document: json!({ "history": [{ "created_by": "first" }], "os.version": "7" }),
            architecture: "arm64".to_owned(),
            os: "linux".to_owned(),
            variant: "v8".to_owned(),
            ..Image::default()
        };
        let commit = Commit { author: "me".to_owned(), created_by: "sh".to_owned(), ..Commit::default() };
        let made = document(Some(&base), &commit, &["sha256:a".to_owned()], true);
        let platform = (&made["architecture"], &made["variant"], &made["os.version"]);
        assert_eq!(platform, (&json!("arm64"), &json!("v8"), &json!("7")));
        let steps = made["history"].as_array().unwrap();
        assert_eq!((steps.len(), &steps[0]), (2, &json!({ "created_by": "first" })));
        assert_eq!((&steps[1]["author"], &steps[1]["empty_layer"]), (&json!("me"), &json!(true)));
        assert!(steps[1].get("comment").is_none() && made.get("comment").is_none());
    }
}
