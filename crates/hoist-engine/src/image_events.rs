//! What is told of images: each event has the labels of its image, by which listeners can choose.

use std::collections::BTreeMap;

use hoist_api::image::Removed;
use hoist_image::Image;

use crate::context::Context;
use crate::images::Images;

/// Tells of an image by its id or by a name; one that is gone has no labels.
pub(crate) fn emit(context: &Context, action: &str, id: &str, name: &str) {
    let labels = context.images.get(id).map(|image| labels(&image)).unwrap_or_default();
    emit_with(context, action, id, name, labels);
}

fn emit_with(context: &Context, action: &str, id: &str, name: &str, mut attributes: BTreeMap<String, String>) {
    attributes.insert("name".to_owned(), name.to_owned());
    context.events.emit("image", action, id, attributes);
}

fn labels(image: &Image) -> BTreeMap<String, String> {
    image.config.labels.clone().unwrap_or_default().into_iter().collect()
}

impl Images {
    pub(crate) fn emit(&self, action: &str, id: &str, name: &str) {
        emit(self.containers().context(), action, id, name);
    }

    /// Tells of what a removal of this image took away; of the reason too, where nobody asked for it.
    pub(crate) fn report(
        &self,
        image: &Image,
        removed: Vec<hoist_image::Removed>,
        reason: Option<&str>,
    ) -> Vec<Removed> {
        let context = self.containers().context();
        let reason = || reason.map(|reason| ("reason".to_owned(), reason.to_owned()));
        let told = removed.into_iter().map(|item| match item {
            hoist_image::Removed::Untagged(name) => {
                let attributes = labels(image).into_iter().chain(reason()).collect();
                emit_with(context, "untag", &image.id, &image.id, attributes);
                Removed::Untagged(name)
            }
            hoist_image::Removed::Deleted(id) => {
                emit_with(context, "delete", &id, &id, reason().into_iter().collect());
                Removed::Deleted(id)
            }
            hoist_image::Removed::WentAlong(name) => Removed::Untagged(name),
            hoist_image::Removed::Layer(chain_id) => Removed::Deleted(chain_id),
        });
        told.collect()
    }
}
