//! `docker history`: by which steps an image was made, newest first.

use crate::{Digest, Error, Image, Store, config};

/// One step, as Docker shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image's id for the newest step and for those whose image is here, `<missing>` for the others.
    pub id: Digest,
    /// Unix seconds, 0 if not recorded.
    pub created: i64,
    pub created_by: String,
    pub tags: Vec<String>,
    pub size: u64,
    pub comment: String,
}

impl Store {
    /// The steps that made `image`, newest first.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryEntry>, Error> {
        let index = self.shared.index();
        let mut layers = image.diff_ids.iter();
        let mut entries = Vec::new();
        for step in index.history(&image.id).iter() {
            let size = if step.empty_layer.unwrap_or(false) {
                0
            } else {
                let text = "too many non-empty layers in History section";
                let diff_id = layers.next().ok_or_else(|| Error::Other(text.to_owned()))?;
                index.layer_size(diff_id).unwrap_or(0)
            };
            entries.push(HistoryEntry {
                id: "<missing>".to_owned(),
                created: step.created.as_deref().and_then(config::unix_seconds).unwrap_or(0),
                created_by: step.created_by.clone().unwrap_or_default(),
                tags: Vec::new(),
                size,
                comment: step.comment.clone().unwrap_or_default(),
            });
        }
        entries.reverse();
        let mut next = Some(image.id.clone());
        for entry in &mut entries {
            let Some(id) = next else { break };
            entry.tags = index.by_id(&id).map(|image| image.repo_tags.clone()).unwrap_or_default();
            next = index.parent(&id).map(str::to_owned);
            entry.id = id;
        }
        Ok(entries)
    }
}
