//! Which images `images` shows: filters, and those that are only there because others were made of them.

use std::collections::HashMap;

use hoist_api::filters::Filters;
use hoist_api::image::Summary;
use hoist_image::Image;

use crate::error::{Error, Result, Translate};
use crate::glob;
use crate::images::Images;
use crate::listing;

/// Filter keys of `GET /images/json`.
pub const IMAGE_FILTER_KEYS: [&str; 10] =
    ["before", "dangling", "label", "label!", "reference", "since", "until", "in-use", "pinned", "unused-for"];

impl Images {
    /// `GET /images/json`.
    /// An image without a name of which others were made shows only with `all`.
    pub fn list(&self, filters: &Filters, all: bool) -> Result<Vec<Summary>> {
        let users = self.users();
        let (dangling, parents) = (filters.boolean("dangling")?, self.store().parents());
        // Of several, all must hold.
        let created = |key: &str| -> Result<Vec<i64>> {
            filters.values(key).iter().map(|name| Ok(self.store().get(name).api()?.created)).collect()
        };
        if filters.values("reference").iter().any(|pattern| !glob::is_valid(pattern)) {
            return Err(Error::invalid("syntax error in pattern"));
        }
        let (before, since) = (created("before")?.into_iter().min(), created("since")?.into_iter().max());
        let until_ns = listing::until(filters)?;
        let (pinned, unused_since_ns) = (filters.boolean("pinned")?, listing::unused_since(filters)?);
        let mut answer = Vec::new();
        for image in self.store().list() {
            let labels = image.config.labels.clone().unwrap_or_default();
            let fits = shows(&image, dangling, parents.contains(&image.id), all)
                && before.is_none_or(|created| image.created < created)
                && since.is_none_or(|created| image.created > created)
                && until_ns.is_none_or(|t| image.created.saturating_mul(1_000_000_000) < t)
                && pinned.is_none_or(|wanted| wanted == image.is_pinned)
                && unused_since_ns.is_none_or(|t| self.store().last_used_ns(&image) <= t)
                && filters.labels_match(&labels);
            let (tags, digests) = matching_names(&image, filters);
            if !fits || (filters.has("reference") && tags.is_empty() && digests.is_empty()) {
                continue;
            }
            let used = users.get(&image.id).map_or(0, |u| u.running.len() + u.stopped.len());
            answer.push(Summary {
                containers: i64::try_from(used).unwrap_or(i64::MAX),
                created: image.created,
                id: image.id.clone(),
                labels: image.config.labels.clone(),
                parent_id: self.store().parent(&image).unwrap_or_default(),
                repo_digests: digests,
                repo_tags: tags,
                shared_size: -1,
                size: image.size_bytes,
                hoist: Some(self.upkeep(&image)),
                manifests: Vec::new(),
            });
        }
        Ok(answer)
    }

    /// The same with the bytes each image shares with others.
    pub fn list_with_shares(&self, filters: &Filters, all: bool) -> Result<Vec<Summary>> {
        let images = self.store().list();
        let layers: Vec<_> = images.iter().map(|image| self.store().layer_sizes(image)).collect();
        let shared = crate::usage::shared_bytes(&layers);
        let shared: HashMap<&str, u64> = images.iter().map(|image| image.id.as_str()).zip(shared).collect();
        let mut answer = self.list(filters, all)?;
        for image in &mut answer {
            let bytes = shared.get(image.id.as_str()).copied().unwrap_or(0);
            image.shared_size = i64::try_from(bytes).unwrap_or(i64::MAX);
        }
        Ok(answer)
    }
}

/// Whether the image is one to list: by what `dangling` wants, and if it has no name, by what was made of it.
fn shows(image: &Image, dangling: Option<bool>, is_parent: bool, all: bool) -> bool {
    let is_nameless = image.repo_tags.is_empty() && image.repo_digests.is_empty();
    match dangling {
        Some(true) => image.repo_tags.is_empty() && !is_parent,
        Some(false) => !is_nameless,
        None => all || !is_nameless || !is_parent,
    }
}

/// The tags and the digests that pass `reference` filters (all without one).
fn matching_names(image: &Image, filters: &Filters) -> (Vec<String>, Vec<String>) {
    let matching = |names: &[String], separator: char| -> Vec<String> {
        let fits = |whole: &&String| {
            let name = whole.rsplit_once(separator).map_or(whole.as_str(), |(name, _)| name);
            filters.any("reference", |pattern| glob::matches(pattern, whole) || glob::matches(pattern, name))
        };
        names.iter().filter(fits).cloned().collect()
    };
    (matching(&image.repo_tags, ':'), matching(&image.repo_digests, '@'))
}
