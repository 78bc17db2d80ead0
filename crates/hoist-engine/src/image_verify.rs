//! `image verify`: which layers are looked at and in which order, what users read about it, and who must not be disturbed
//! by a repair.

use std::collections::HashSet;
use std::sync::Arc;

use hoist_image::{Damage, Image, Keyring, MayReplace, Progress, ProgressSink};

use crate::error::{Error, Result, Translate};
use crate::images::Images;

/// What a verification counts.
#[derive(Default)]
struct Tally {
    layers: usize,
    documents: usize,
    damaged: usize,
    repaired: usize,
}

/// What is to be verified, and how.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// Names or ids; none means every image.
    pub images: Vec<String>,
    /// Fetch what is damaged again.
    pub repair: bool,
    pub credentials: Keyring,
}

impl Images {
    /// Holds images against what they should be, each layer once; what is found, and what became of it, is told line by line.
    /// Fails when damage remains.
    pub async fn verify(&self, request: &VerifyRequest, progress: &ProgressSink) -> Result<()> {
        let images = match request.images.as_slice() {
            [] => self.store().list(),
            names => names.iter().map(|name| self.store().get(name).api()).collect::<Result<_>>()?,
        };
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        for image in &images {
            self.verify_documents(image, request, progress, &mut tally).await?;
            for diff_id in image.diff_ids.iter().filter(|diff_id| seen.insert((*diff_id).clone())) {
                self.verify_layer(diff_id, request, progress, &mut tally).await?;
            }
        }
        let Tally { layers, documents, damaged, repaired } = tally;
        let looked_at = format!("{} images, {layers} layers and {documents} documents", images.len());
        if damaged == repaired {
            let mended = if repaired > 0 { format!(", {repaired} repaired") } else { String::new() };
            say(progress, format!("{looked_at} verified{mended}"));
            return Ok(());
        }
        let hint = if request.repair { "" } else { " (--repair fetches them again)" };
        Err(Error::internal(format!("{} of {looked_at} damaged{hint}", damaged - repaired)))
    }

    async fn verify_documents(
        &self,
        image: &Arc<Image>,
        request: &VerifyRequest,
        progress: &ProgressSink,
        tally: &mut Tally,
    ) -> Result<()> {
        let (store, checked) = (self.store().clone(), image.clone());
        let damaged = blocking(move || store.verify_documents(&checked)).await?;
        tally.documents += 1;
        if damaged.is_empty() {
            return Ok(());
        }
        tally.damaged += 1;
        for digest in &damaged {
            say(progress, format!("image {}: its document {digest} is damaged", name_of(image)));
        }
        if request.repair {
            let mended = self.store().refetch_documents(image, &damaged, &request.credentials, progress).await;
            tally.repaired += usize::from(tell_repair(&format!("image {}", name_of(image)), mended.api(), progress));
        }
        Ok(())
    }

    async fn verify_layer(
        &self,
        diff_id: &str,
        request: &VerifyRequest,
        progress: &ProgressSink,
        tally: &mut Tally,
    ) -> Result<()> {
        let (store, checked) = (self.store().clone(), diff_id.to_owned());
        let damage = blocking(move || store.verify_layer(&checked)).await?;
        tally.layers += 1;
        if damage.is_empty() {
            return Ok(());
        }
        tally.damaged += 1;
        say(progress, format!("layer {diff_id}: damaged"));
        for Damage { path, what } in damage {
            say(progress, if path.is_empty() { format!("    {what}") } else { format!("    /{path} {what}") });
        }
        if request.repair {
            let may = self.may_replace(diff_id);
            let mended = match may() {
                Ok(()) => self.store().refetch_layer(diff_id, &may, &request.credentials, progress).await.api(),
                Err(why) => Err(why).api(),
            };
            tally.repaired += usize::from(tell_repair(&format!("layer {diff_id}"), mended, progress));
        }
        Ok(())
    }

    /// A container that runs on the layer must be stopped first.
    fn may_replace(&self, diff_id: &str) -> MayReplace {
        let (images, path) = (self.clone(), self.store().layer_path(diff_id));
        Arc::new(move || {
            let users = images.container_records();
            match users.iter().find(|record| record.state.status.alive() && record.fixed.layers.contains(&path)) {
                Some(record) => {
                    let name = record.name.trim_start_matches('/');
                    Err(hoist_image::Error::Conflict(format!("container {name} runs on it: stop that first")))
                }
                None => Ok(()),
            }
        })
    }
}

fn name_of(image: &Image) -> String {
    image.repo_tags.first().unwrap_or(&image.id).clone()
}

fn say(progress: &ProgressSink, line: String) {
    progress(Progress { stream: Some(format!("{line}\n")), ..Progress::default() });
}

/// Whether it worked.
fn tell_repair(what: &str, mended: Result<String>, progress: &ProgressSink) -> bool {
    match mended {
        Ok(from) => {
            say(progress, format!("{what}: repaired from {from}"));
            true
        }
        Err(why) => {
            say(progress, format!("{what}: not repaired: {why}"));
            false
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, hoist_image::Error> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(e.to_string()))?.api()
}
