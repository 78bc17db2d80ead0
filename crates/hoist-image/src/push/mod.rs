//! `docker push`: from an image to a repository. Layers are kept unpacked here, so for each one the shortest way to the
//! blob that the manifest names is sought (`plan`): it is there, or in another repository of the same registry, or it can
//! be made again, or fetched from where the image came from (`layer`). If that manifest cannot be had whole, another one
//! is written (`document`), as dockerd always does.

mod document;
mod gzip;
mod layer;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use hoist_api::reference::Reference;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ingest::{ImageDraft, Ingest};
use crate::manifest::Descriptor;
use crate::progress::Pushed;
use crate::records::{self, LayerSource, SourceDraft};
use crate::registry::{self, Access, Failure, Repository};
use crate::{Credentials, Error, Image, Progress, ProgressSink, Shared, Store, digest, index};
use document::{Document, Kept};
use plan::Plan;

/// Docker's default of `max-concurrent-uploads`.
const PARALLEL_DEFAULT: usize = 5;

/// One push to one place.
struct Push {
    shared: Arc<Shared>,
    target: Arc<Repository>,
    /// `registry.io/some/name`, as sources are recorded.
    repository: String,
    credentials: Option<Credentials>,
    progress: ProgressSink,
    slots: Arc<Semaphore>,
    parallel: usize,
}

/// A layer that is at the target.
#[derive(Clone, Debug)]
struct Placed {
    diff_id: String,
    descriptor: Descriptor,
    /// These very bytes were made here from the layer.
    proven: bool,
}

/// Why a layer did not get there.
#[derive(Debug)]
enum LayerFailure {
    Failed(Failure),
    Here(Error),
}

impl From<Failure> for LayerFailure {
    fn from(failure: Failure) -> LayerFailure {
        LayerFailure::Failed(failure)
    }
}

impl From<LayerFailure> for Error {
    fn from(failure: LayerFailure) -> Error {
        match failure {
            LayerFailure::Failed(failure) => failure.for_push(),
            LayerFailure::Here(error) => error,
        }
    }
}

impl Store {
    /// Pushes a tag, or every tag of the repository if the reference has none.
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        progress: ProgressSink,
    ) -> Result<(), Error> {
        progress(Progress::status(None, format!("The push refers to repository [{}]", reference.name())));
        if !self.has_repository(reference) {
            let name = reference.familiar_name();
            return Err(Error::Other(format!("An image does not exist locally with the tag: {name}")));
        }
        let config = self.config();
        let mut last = Error::Other(format!("no registry for {reference}"));
        for place in registry::places(reference, Access::Push, &config, credentials, &progress).await? {
            if let Err(failure) = place.ping().await {
                last = failure.for_push();
                continue;
            }
            let push = Arc::new(Push {
                shared: self.shared.clone(),
                target: Arc::new(place),
                repository: reference.name(),
                credentials: credentials.cloned(),
                progress,
                slots: self.shared.uploads(),
                parallel: config.max_concurrent_uploads.unwrap_or(PARALLEL_DEFAULT).max(1),
            });
            for tagged in self.tags_to_push(reference)? {
                push.tag(&tagged).await?;
            }
            return Ok(());
        }
        Err(last)
    }

    fn has_repository(&self, reference: &Reference) -> bool {
        let name = reference.name();
        let images = self.list();
        let index = self.shared.index();
        images.iter().any(|image| index.references(&image.id).iter().any(|other| other.name() == name))
    }

    fn tags_to_push(&self, reference: &Reference) -> Result<Vec<Reference>, Error> {
        if reference.digest.is_some() {
            return Err(Error::Other("cannot push a digest reference".to_owned()));
        }
        let index = self.shared.index();
        if reference.tag.is_some() {
            return match index.by_name(reference) {
                Some(_) => Ok(vec![reference.clone()]),
                None => Err(Error::Other(format!("tag does not exist: {}", reference.familiar()))),
            };
        }
        let name = reference.name();
        let images = index.list();
        let references = images.iter().flat_map(|image| index.references(&image.id));
        let mut tags: Vec<Reference> =
            references.filter(|other| other.name() == name && other.digest.is_none()).collect();
        tags.sort_by(|a, b| a.tag.cmp(&b.tag));
        if tags.is_empty() {
            return Err(Error::Other(format!("no tags to push for {}", reference.familiar_name())));
        }
        Ok(tags)
    }
}

/// As many uploads at a time as a setting says.
pub(crate) fn slots(parallel: Option<usize>) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(parallel.unwrap_or(PARALLEL_DEFAULT).max(1)))
}

impl Push {
    /// Pushes what one tag names.
    async fn tag(self: &Arc<Push>, reference: &Reference) -> Result<(), Error> {
        let image = self.shared.index().get(&index::lookup_key(reference))?;
        // Holds the layers while this goes on, whoever removes the image meanwhile.
        let ingest = Arc::new(Ingest::begin(&self.shared)?);
        if let Some(gone) = image.diff_ids.iter().find(|diff_id| !ingest.hold_existing(diff_id)) {
            return Err(Error::Other(format!("layer {gone} of image {} was removed meanwhile", image.id)));
        }
        let layers = self.announce(&image);
        let kept = document::kept(&self.shared, &image, &self.repository)?;
        let config = self.shared.disk.blobs.read(&image.id)?;
        let (document, placed) = self.place(&image, config.len(), &kept, &layers).await?;
        self.target.put_blob(&image.id, &config).await.map_err(Failure::for_push)?;
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let put = self.target.put_manifest(tag, &document.media_type, &document.bytes).await;
        put.map_err(Failure::for_push)?;
        let (digest, size) = (document.digest.clone(), document.bytes.len() as u64);
        self.remember(ingest, &image, reference, document, placed).await?;
        (self.progress)(Progress::status(None, format!("{tag}: digest: {digest} size: {size}")));
        let pushed = Pushed { tag: tag.to_owned(), digest, size_bytes: size };
        (self.progress)(Progress { pushed: Some(pushed), ..Progress::default() });
        Ok(())
    }

    /// The image's layers, topmost first, each once; says that they are looked at.
    fn announce(&self, image: &Image) -> Vec<String> {
        let mut layers: Vec<String> = Vec::new();
        for diff_id in image.diff_ids.iter().rev() {
            if !layers.contains(diff_id) {
                layers.push(diff_id.clone());
            }
        }
        layers.iter().for_each(|diff_id| self.say(diff_id, "Preparing"));
        layers.iter().skip(self.parallel).for_each(|diff_id| self.say(diff_id, "Waiting"));
        layers
    }

    fn say(&self, diff_id: &str, status: impl Into<String>) {
        (self.progress)(Progress::status(Some(digest::short(diff_id)), status));
    }

    /// Brings the layers to the target, for a manifest that the image came by if that can be had whole, else for a new
    /// one.
    async fn place(
        self: &Arc<Push>,
        image: &Image,
        config_bytes: usize,
        kept: &[Kept],
        layers: &[String],
    ) -> Result<(Document, HashMap<String, Placed>), Error> {
        for kept in kept {
            let wanted: HashMap<String, Descriptor> = kept.layers(image).collect();
            let homes = Arc::new(self.homes(image));
            let planned = self.at_once(layers, |push, diff_id| {
                let (wanted, homes) = (wanted.get(&diff_id).cloned(), homes.clone());
                async move { plan::exactly(&push, diff_id, wanted?, &homes).await.transpose() }
            });
            let plans = planned.await?;
            if plans.len() < layers.len() {
                continue;
            }
            match self.carry_out(plans).await {
                Ok(placed) => return Ok((kept.document.clone(), placed)),
                // What its source promised did not come; the image can still be pushed by a manifest of our own.
                Err(LayerFailure::Failed(Failure::Broken(reason))) => {
                    tracing::info!(image = %image.id, reason, "pushed with a new manifest");
                }
                Err(other) => return Err(other.into()),
            }
        }
        let planned = self.at_once(layers, |push, diff_id| {
            let foreign = kept.iter().find_map(|kept| kept.foreign(image, &diff_id));
            async move { Some(plan::anyhow_there(&push, diff_id, foreign).await) }
        });
        let placed = self.carry_out(planned.await?).await?;
        let document = document::write(image, kept.first(), config_bytes, &placed)?;
        Ok((document, placed))
    }

    /// Does the same for each layer, some at a time; those without a result are left out.
    async fn at_once<T: Send + 'static, F>(
        self: &Arc<Push>,
        layers: &[String],
        job: impl Fn(Arc<Push>, String) -> F,
    ) -> Result<Vec<T>, LayerFailure>
    where
        F: Future<Output = Option<Result<T, LayerFailure>>> + Send + 'static,
    {
        let turns = slots(Some(self.parallel));
        let mut running = JoinSet::new();
        for diff_id in layers {
            let (job, turns) = (job(self.clone(), diff_id.clone()), turns.clone());
            running.spawn(async move {
                // It is never closed.
                let _turn = turns.acquire().await;
                job.await
            });
        }
        let mut results = Vec::new();
        while let Some(joined) = running.join_next().await {
            let ended = joined.map_err(|e| LayerFailure::Here(Error::Other(format!("layer task: {e}"))))?;
            results.extend(ended.transpose()?);
        }
        Ok(results)
    }

    /// Repositories by whose digests the image is known: they hold its manifest, so its layers too.
    fn homes(&self, image: &Image) -> Vec<String> {
        let references = self.shared.index().references(&image.id);
        references.into_iter().filter(|reference| reference.digest.is_some()).map(|r| r.name()).collect()
    }

    async fn carry_out(self: &Arc<Push>, plans: Vec<Plan>) -> Result<HashMap<String, Placed>, LayerFailure> {
        let mut running = JoinSet::new();
        for plan in plans {
            let push = self.clone();
            running.spawn(async move {
                // It is never closed.
                let _slot = push.slots.acquire().await;
                layer::carry_out(&push, plan).await
            });
        }
        let mut placed = HashMap::new();
        while let Some(joined) = running.join_next().await {
            let ended = joined.map_err(|e| LayerFailure::Here(Error::Other(format!("layer task: {e}"))))?;
            match ended {
                Ok(layer) => drop(placed.insert(layer.diff_id.clone(), layer)),
                Err(failure) => {
                    running.shutdown().await;
                    return Err(failure);
                }
            }
        }
        Ok(placed)
    }

    /// Records what the target has now: the manifest and its digest, and where each layer is.
    async fn remember(
        &self,
        ingest: Arc<Ingest>,
        image: &Image,
        reference: &Reference,
        document: Document,
        placed: HashMap<String, Placed>,
    ) -> Result<(), Error> {
        if self.shared.index().by_id(&image.id).is_none() {
            // Removed meanwhile, on purpose: it does not come back.
            return Ok(());
        }
        let mut sources = Vec::new();
        for Placed { diff_id, descriptor, proven } in placed.into_values() {
            let Descriptor { digest, size: size_bytes, media_type, .. } = descriptor;
            let source = |repository: &str| LayerSource {
                diff_id: diff_id.clone(),
                digest: digest.clone(),
                size_bytes,
                media_type: media_type.clone(),
                repository: repository.to_owned(),
            };
            sources.push(SourceDraft { source: source(&self.repository), proven });
            if proven && digest != diff_id {
                sources.push(SourceDraft { source: source(plan::MADE_HERE), proven });
            }
        }
        let names = vec![reference.with_digest(&document.digest)];
        let config = self.shared.disk.blobs.read(&image.id)?;
        let known = records::media_type(&self.shared.db, &image.id)?;
        let draft = ImageDraft {
            config,
            config_media_type: known.unwrap_or_default(),
            manifests: vec![(document.digest, document.media_type, document.bytes)],
            sources,
            names,
            parent: None,
            tagged_ns: 0,
            made_here: false,
        };
        let commit = tokio::task::spawn_blocking(move || ingest.commit(&[draft]));
        commit.await.map_err(|e| Error::Other(format!("image commit: {e}")))?.map(drop)
    }
}
