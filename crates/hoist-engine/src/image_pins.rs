//! Pins: images that are kept from being pruned, by name or by id.

use hoist_api::image::Unpinned;
use hoist_api::time::rfc3339_nano;
use hoist_image::Image;

use crate::error::{Result, Translate};
use crate::images::Images;

impl Images {
    /// Pins a name, or with an id the image itself; returns the image's id. Blocking.
    pub fn pin(&self, name: &str) -> Result<String> {
        let id = self.store().pin(name).api()?;
        self.emit("pin", &id, name);
        Ok(id)
    }

    /// Takes a pin away. Blocking.
    pub fn unpin(&self, name: &str) -> Result<Unpinned> {
        let (id, still_pinned_by) = self.store().unpin(name).api()?;
        self.emit("unpin", &id, name);
        Ok(Unpinned { id, still_pinned_by })
    }

    /// What decides how long the image stays.
    pub(crate) fn upkeep(&self, image: &Image) -> hoist_api::image::Upkeep {
        let last_used = rfc3339_nano(self.store().last_used_ns(image));
        hoist_api::image::Upkeep { last_used, pinned: image.is_pinned }
    }
}
