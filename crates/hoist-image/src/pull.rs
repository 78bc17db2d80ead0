//! `docker pull`: from a reference to an image, with what users see on the way. Layers are fetched and unpacked side by
//! side; nothing becomes visible before everything was verified.

use std::collections::HashSet;
use std::sync::Arc;

use hoist_api::reference::Reference;
use tokio::task::JoinSet;

use crate::downloads::{Downloads, LayerFailure};
use crate::ingest::{ImageDraft, Ingest};
use crate::manifest::{self, Descriptor, ImageManifest, Manifest};
use crate::records::{LayerSource, SourceDraft};
use crate::registry::{self, Access, Failure, FetchedManifest, Repository};
use crate::{Credentials, Error, Platform, Progress, ProgressSink, Shared, Store, config, digest, tags};

const INDEX_DEPTH_MAX: usize = 4;

/// One pull from one place.
struct Pull {
    store: Store,
    repository: Arc<Repository>,
    /// Who says what a tag stands for, where the repository itself is not to be asked.
    resolver: Option<Arc<Repository>>,
    platform: Option<Platform>,
    progress: ProgressSink,
}

/// All that a registry says about an image, verified.
struct Described {
    /// As the reference led to them: perhaps an index, then the manifest.
    manifests: Vec<FetchedManifest>,
    image: ImageManifest,
    config: Vec<u8>,
    document: config::Document,
}

impl Described {
    /// Each layer with its diff id, lowest first.
    fn layers(&self) -> impl Iterator<Item = (&Descriptor, &String)> {
        self.image.layers.iter().zip(&self.document.diff_ids)
    }
}

impl Store {
    /// Pulls one tag or digest (`all_tags`: every tag). The future may be dropped: nothing half-done becomes visible.
    pub async fn pull(
        &self,
        reference: &Reference,
        all_tags: bool,
        platform: Option<&Platform>,
        credentials: Option<&Credentials>,
        progress: ProgressSink,
    ) -> Result<(), Error> {
        if all_tags && !reference.is_name_only() {
            return Err(Error::Invalid("tag can't be used with --all-tags/-a".to_owned()));
        }
        let reference = if all_tags { reference.clone() } else { reference.clone().with_default_tag() };
        tags::check_name(&reference)?;
        if let Some(policy) = &self.config().signature_policy {
            policy.admits(&reference)?;
        }
        let places = registry::places(&reference, Access::Pull, &self.config(), credentials, &progress).await?;
        let places: Vec<Arc<Repository>> = places.into_iter().map(Arc::new).collect();
        let mut last = Error::Other(format!("no registry for {reference}"));
        for place in &places {
            let (mirror, shown) = (place.is_mirror(), place.shown());
            let resolver = if place.resolves() { None } else { resolver(&places).await };
            if !place.resolves() && resolver.is_none() && reference.digest.is_none() {
                continue;
            }
            if let Err(failure) = place.ping().await {
                last = failure.for_pull(&reference);
                tracing::debug!(registry = %shown, error = %last, "registry does not answer");
                continue;
            }
            let (store, platform) = (self.clone(), platform.cloned());
            let pull = Pull { store, repository: place.clone(), resolver, platform, progress: progress.clone() };
            let done = if all_tags { pull.every_tag(&reference).await } else { pull.one(&reference).await };
            match done.map(|updated| pull.say_status(&reference, updated)) {
                Err(e) if mirror => {
                    tracing::warn!(mirror = %shown, error = %e, "pull from mirror failed, the next place is tried");
                    last = e;
                }
                other => return other,
            }
        }
        Err(last)
    }
}

/// The first of the places that may be asked for tags and answers.
async fn resolver(places: &[Arc<Repository>]) -> Option<Arc<Repository>> {
    for place in places.iter().filter(|place| place.resolves()) {
        if place.ping().await.is_ok() {
            return Some(place.clone());
        }
    }
    None
}

impl Pull {
    async fn every_tag(&self, reference: &Reference) -> Result<bool, Error> {
        let tags =
            self.resolver.as_ref().unwrap_or(&self.repository).tags().await.map_err(|f| f.for_pull(reference))?;
        let mut updated = false;
        for tag in tags {
            let tagged = Reference::parse(&format!("{}:{tag}", reference.name()))
                .map_err(|e| Error::Other(format!("the registry lists the tag {tag:?}: {e}")))?;
            updated |= self.one(&tagged).await?;
        }
        Ok(updated)
    }

    /// Pulls one reference; whether anything changed.
    async fn one(&self, reference: &Reference) -> Result<bool, Error> {
        let described = self.describe(reference).await?;
        // Whatever is here already: a policy may have come since.
        let mut met = Vec::new();
        if let Some(policy) = self.store.config().signature_policy.clone() {
            let beside = self.resolver.as_ref().unwrap_or(&self.repository);
            met = policy.check(reference, beside, &described.manifests).await?;
        }
        let digest = described.manifests[0].digest.clone();
        let id = digest::of_bytes(&described.config);
        let pinned = reference.with_digest(&digest);
        let mut names = vec![pinned.clone()];
        if let (None, Some(tag)) = (&reference.digest, &reference.tag) {
            names.push(reference.with_tag(tag));
        }
        let is_known = |name: &Reference| self.store.shared.index().by_name(name) == Some(id.as_str());
        let updated = !is_known(names.last().unwrap_or(&pinned));
        if !names.iter().all(is_known) {
            self.bring_in(described, names).await?;
        }
        if !met.is_empty() {
            let (store, id, name) = (self.store.clone(), id.clone(), reference.clone());
            let vouched = tokio::task::spawn_blocking(move || store.vouch(&id, &name, met)).await;
            vouched.map_err(|e| Error::Other(format!("image vouchers: {e}")))??;
        }
        self.store.touch(&id);
        (self.progress)(Progress::status(None, format!("Digest: {digest}")));
        self.warn_of_platform(reference, &id);
        Ok(updated)
    }

    fn say_status(&self, reference: &Reference, updated: bool) {
        let what = if updated { "Downloaded newer image" } else { "Image is up to date" };
        (self.progress)(Progress::status(None, format!("Status: {what} for {}", reference.familiar())));
    }

    /// A single-platform image comes whatever it is for; who asked for another is told.
    fn warn_of_platform(&self, reference: &Reference, id: &str) {
        let (Some(wanted), Some(image)) = (&self.platform, self.store.shared.index().by_id(id)) else { return };
        if wanted.os == image.os && wanted.architecture == image.architecture {
            return;
        }
        let (os, architecture, variant) = (image.os.clone(), image.architecture.clone(), image.variant.clone());
        let have = Platform { os, architecture, variant };
        let text = format!(
            "WARNING: image with reference {} was found but its platform ({have}) does not match the specified platform \
             ({wanted})",
            reference.familiar()
        );
        (self.progress)(Progress::status(None, text));
    }

    async fn describe(&self, reference: &Reference) -> Result<Described, Error> {
        let mut manifests = vec![self.top_manifest(reference).await?];
        let whole = reference.digest.as_deref().map(|digest| reference.with_digest(digest).to_string());
        let wanted = whole.as_deref().or(reference.tag.as_deref());
        (self.progress)(Progress::status(wanted, format!("Pulling from {}", reference.path)));
        let image = loop {
            let last = &manifests[manifests.len() - 1];
            match manifest::parse(&last.bytes, &last.media_type)? {
                Manifest::Image(image) => break image,
                Manifest::Index(_) if manifests.len() >= INDEX_DEPTH_MAX => {
                    return Err(Error::Invalid("invalid manifest: indexes nested too deep".to_owned()));
                }
                Manifest::Index(entries) => {
                    let wanted = self.platform.clone().unwrap_or_else(Platform::host);
                    let chosen = manifest::choose(&entries, &wanted)?;
                    manifests.push(self.manifest_by_digest(reference, &chosen.digest).await?);
                }
            }
        };
        image.check_is_image()?;
        let config = match self.store.shared.disk.blobs.read(&image.config.digest) {
            Ok(bytes) => bytes,
            Err(_) => self.repository.config(&image.config).await.map_err(|f| f.for_pull(reference))?,
        };
        let document = config::parse(&config)?;
        if document.os != "linux" {
            let text = format!(
                "image operating system {:?} cannot be used on this platform: operating system is not supported",
                document.os
            );
            return Err(Error::Invalid(text));
        }
        if document.diff_ids.len() != image.layers.len() {
            let (layers, diff_ids) = (image.layers.len(), document.diff_ids.len());
            return Err(Error::Invalid(format!("manifest has {layers} layers, image config has {diff_ids}")));
        }
        Ok(Described { manifests, image, config, document })
    }

    async fn top_manifest(&self, reference: &Reference) -> Result<FetchedManifest, Error> {
        if let Some(digest) = &reference.digest {
            return self.manifest_by_digest(reference, digest).await;
        }
        let failed = |failure: Failure| failure.for_pull(reference);
        let tag = reference.tag.as_deref().unwrap_or("latest");
        if let Some(resolver) = &self.resolver {
            let digest = match resolver.tag_digest(tag).await.map_err(failed)? {
                Some(digest) => digest,
                None => resolver.manifest(tag).await.map_err(failed)?.digest,
            };
            return self.manifest_by_digest(reference, &digest).await;
        }
        if let Some(digest) = self.repository.tag_digest(tag).await.map_err(failed)?
            && let Some(known) = self.store.shared.manifest_here(&digest)?
        {
            return Ok(known);
        }
        self.repository.manifest(tag).await.map_err(failed)
    }

    /// One that an earlier pull left here, or the registry's.
    async fn manifest_by_digest(&self, reference: &Reference, digest: &str) -> Result<FetchedManifest, Error> {
        match self.store.shared.manifest_here(digest)? {
            Some(known) => Ok(known),
            None => self.repository.manifest(digest).await.map_err(|failure| failure.for_pull(reference)),
        }
    }

    /// Fetches what is missing and makes the image visible.
    async fn bring_in(&self, described: Described, names: Vec<Reference>) -> Result<(), Error> {
        let ingest = Arc::new(Ingest::begin(&self.store.shared)?);
        let jobs = self.plan(&ingest, &described);
        let sources = self.sources(&described, &jobs, &names[0].name());
        let layers: Vec<_> = described.layers().map(|(d, diff_id)| (d.clone(), diff_id.clone())).collect();
        let mut running = JoinSet::new();
        for (descriptor, diff_id) in jobs {
            let (ingest, shared) = (ingest.clone(), self.store.shared.clone());
            let (repository, progress) = (self.repository.clone(), self.progress.clone());
            let layer = LayerJob { ingest, shared, repository, progress, descriptor, diff_id };
            running.spawn(layer.run());
        }
        let downloads = &self.store.shared.downloads;
        while let Some(joined) = running.join_next().await {
            let failure = match joined.map_err(|e| Error::Other(format!("layer task: {e}")))? {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            running.shutdown().await;
            if !failure.is_transient() {
                downloads.forget(&layers);
            }
            return Err(match failure {
                LayerFailure::Fetch(failure) => failure.for_pull(&names[0]),
                LayerFailure::Unpack(text) => Error::Other(text),
            });
        }
        let config_media_type = described.image.config.media_type.clone();
        let manifests = described.manifests.into_iter().map(|m| (m.digest, m.media_type, m.bytes)).collect();
        let config = described.config;
        let (parent, tagged_ns, made_here) = (None, 0, false);
        let draft = ImageDraft { config, config_media_type, manifests, sources, names, parent, tagged_ns, made_here };
        let commit = tokio::task::spawn_blocking(move || ingest.commit(&[draft]));
        let committed = commit.await.map_err(|e| Error::Other(format!("image commit: {e}")))?;
        downloads.forget(&layers);
        committed.map(drop)
    }

    /// Which layers are to be fetched; says for each what will happen.
    fn plan(&self, ingest: &Ingest, described: &Described) -> Vec<(Descriptor, String)> {
        let mut jobs = Vec::new();
        let mut seen = HashSet::new();
        for (descriptor, diff_id) in described.layers() {
            let id = digest::short(&descriptor.digest);
            if !seen.insert(diff_id) || ingest.hold_existing(diff_id) {
                (self.progress)(Progress::status(Some(id), "Already exists"));
            } else {
                (self.progress)(Progress::status(Some(id), "Pulling fs layer"));
                jobs.push((descriptor.clone(), diff_id.clone()));
            }
        }
        for (descriptor, _) in jobs.iter().skip(self.store.shared.downloads.parallel()) {
            (self.progress)(Progress::status(Some(digest::short(&descriptor.digest)), "Waiting"));
        }
        jobs
    }

    /// Where the layers are from. Those that are fetched are proven, as their digests are checked before they are committed,
    /// and so are those that an interrupted pull fetched.
    fn sources(&self, described: &Described, fetched: &[(Descriptor, String)], repository: &str) -> Vec<SourceDraft> {
        let index = self.store.shared.index();
        let layers = described.layers();
        layers
            .map(|(descriptor, diff_id)| SourceDraft {
                proven: fetched.iter().any(|(other, id)| other.digest == descriptor.digest && id == diff_id)
                    || index.layer_came_as(diff_id, &descriptor.digest),
                source: LayerSource {
                    diff_id: diff_id.clone(),
                    digest: descriptor.digest.clone(),
                    size_bytes: descriptor.size,
                    media_type: descriptor.media_type.clone(),
                    repository: repository.to_owned(),
                },
            })
            .collect()
    }
}

/// One layer that a pull needs.
struct LayerJob {
    ingest: Arc<Ingest>,
    shared: Arc<Shared>,
    repository: Arc<Repository>,
    progress: ProgressSink,
    descriptor: Descriptor,
    diff_id: String,
}

impl LayerJob {
    async fn run(self) -> Result<(), LayerFailure> {
        loop {
            let layer = (&self.descriptor, self.diff_id.as_str());
            let wanted = Downloads::want(&self.shared, layer, &self.repository, &self.progress);
            let mut wanted = wanted.map_err(|e| LayerFailure::Unpack(e.to_string()))?;
            wanted.finished().await?;
            if self.ingest.hold_existing(&self.diff_id) {
                return Ok(());
            }
        }
    }
}
