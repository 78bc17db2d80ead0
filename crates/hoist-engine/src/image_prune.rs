//! `image prune`: which images nobody needs any more.

use hoist_api::filters::Filters;
use hoist_api::image::PruneReport;
use hoist_image::Force;

use crate::error::{Result, Translate};
use crate::images::Images;
use crate::listing;

impl Images {
    /// `POST /images/prune`: dangling images, or with `dangling=false` all that no container uses.
    pub fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        let only_dangling = filters.boolean("dangling")?.unwrap_or(true);
        let (until_ns, unused_since_ns) = (listing::until(filters)?, listing::unused_since(filters)?);
        let users = self.users();
        self.store().forget_interrupted();
        let mut report = PruneReport::default();
        let before = self.layers_size_bytes();
        for image in self.store().list() {
            let labels = image.config.labels.clone().unwrap_or_default();
            let prunable = !users.contains_key(&image.id)
                && (!only_dangling || image.repo_tags.is_empty())
                && until_ns.is_none_or(|t| image.created.saturating_mul(1_000_000_000) < t)
                && unused_since_ns.is_none_or(|t| self.store().last_used_ns(&image) <= t)
                && filters.labels_match(&labels);
            if !prunable {
                continue;
            }
            if image.is_pinned {
                let names = if image.repo_tags.is_empty() { vec![image.id.clone()] } else { image.repo_tags.clone() };
                report.hoist.get_or_insert_default().pinned.extend(names);
                continue;
            }
            let removed =
                match self.store().remove(&image.id, Force::SparingPins, false, &|image| self.any_users(image)) {
                    Ok(removed) => removed,
                    // it went with the image above it, or somebody needs or pins it by now
                    Err(hoist_image::Error::NotFound(_) | hoist_image::Error::Conflict(_)) => continue,
                    Err(e) => return Err(e).api(),
                };
            report.images_deleted.get_or_insert_default().extend(self.report(&image, removed, None));
        }
        report.space_reclaimed = before.saturating_sub(self.layers_size_bytes());
        let reclaimed = [("reclaimed".to_owned(), report.space_reclaimed.to_string())];
        self.containers().context().events.emit("image", "prune", "", reclaimed.into());
        Ok(report)
    }
}
