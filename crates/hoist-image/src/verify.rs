//! `image verify`: what the store has, held against what it should be, and mended layer by layer. Nothing here decides
//! who may be disturbed by that.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_api::reference::Reference;

use crate::blobs::write_draft;
use crate::distribution::{Question, ask};
use crate::ingest::{Ingest, LayerDraft};
use crate::manifest::Descriptor;
use crate::records::{self, LayerSource};
use crate::registry::{self, Access, Failure, Repository};
use crate::unpack::{self, Damage, Whiteouts};
use crate::{Digest, Error, Image, Keyring, ProgressSink, Store, config};

/// Whether a layer may be put in the place of the one that is here; if not, why.
pub type MayReplace = Arc<dyn Fn() -> Result<(), Error> + Send + Sync>;

impl Store {
    /// Where a layer's files are.
    pub fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.shared.disk.layer_content(diff_id)
    }

    /// Checks a layer's files and record against its digest; empty: it is as it came. It stays while this goes on. Blocking.
    pub fn verify_layer(&self, diff_id: &str) -> Result<Vec<Damage>, Error> {
        let ingest = Ingest::begin(&self.shared)?;
        if !ingest.hold_existing(diff_id) {
            return Err(Error::NotFound(format!("no such layer: {diff_id}")));
        }
        let (record, content) = (self.shared.disk.layer_record(diff_id), self.shared.disk.layer_content(diff_id));
        if !content.is_dir() {
            return Ok(vec![Damage { path: String::new(), what: "the layer's directory is missing".to_owned() }]);
        }
        unpack::verify(&record, &content, diff_id)
            .map_err(|e| Error::Other(format!("layer {diff_id} cannot be checked: {e}")))
    }

    /// Checks an image's documents, its config and the manifests by which it came: the damaged ones.
    pub fn verify_documents(&self, image: &Image) -> Result<Vec<Digest>, Error> {
        let blobs = records::image_blobs(&self.shared.db, &image.id)?;
        Ok(blobs
            .into_iter()
            .map(|(digest, _)| digest)
            .filter(|digest| self.shared.disk.blobs.read(digest).is_err())
            .collect())
    }

    /// Fetches a layer again from where it came, and puts it in the place of the one that is here, unless `may_replace` says
    /// in that moment why not: what an overlay shows must not change under it. Returns the repository that gave it.
    pub async fn refetch_layer(
        &self,
        diff_id: &str,
        may_replace: &MayReplace,
        credentials: &Keyring,
        progress: &ProgressSink,
    ) -> Result<String, Error> {
        let mut last = no_registry();
        for source in records::sources(&self.shared.db, diff_id)? {
            let Ok(repository) = Reference::parse(&source.repository) else { continue };
            // What is asked for has a digest, whatever tags it has there.
            let reference = repository.with_digest(&source.digest);
            let asked = (&reference, Access::Pull, credentials.get(&reference.domain));
            let question = Refetched { store: self, source: &source, may_replace };
            match ask(&self.config(), asked, unreachable, &question, progress).await {
                Ok(()) => return Ok(source.repository),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    async fn refetch_from(
        &self,
        place: &Repository,
        source: &LayerSource,
        may_replace: MayReplace,
    ) -> Result<(), Error> {
        let (sink, bytes) = registry::channel();
        let ingest = Ingest::begin(&self.shared)?;
        let expected = source.digest.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let draft = ingest.unpack_verified(bytes, Whiteouts::Overlay, &expected);
            draft.map(|draft| (ingest, draft))
        });
        let fetched = place.layer(&source.descriptor(), &mut 0, &sink, &|_| {}).await;
        match &fetched {
            Ok(()) => sink.finish().await,
            Err(_) => drop(sink),
        }
        let unpacked = unpacking.await.map_err(|e| Error::Other(format!("layer task: {e}")))?;
        fetched.map_err(|f| Error::Other(f.to_string()))?;
        let (ingest, draft) = unpacked?;
        let (store, diff_id) = (self.clone(), source.diff_id.clone());
        tokio::task::spawn_blocking(move || {
            may_replace()?;
            store.put_in_place(&ingest, &draft, &diff_id)
        })
        .await
        .map_err(|e| Error::Other(format!("layer task: {e}")))?
    }

    fn put_in_place(&self, ingest: &Ingest, draft: &LayerDraft, diff_id: &str) -> Result<(), Error> {
        if draft.diff_id != diff_id {
            let text = format!("what the registry has now unpacks to {}", draft.diff_id);
            ingest.discard(draft);
            return Err(Error::Other(text));
        }
        ingest.replace(draft)
    }

    /// Fetches damaged documents of an image again, from the registries it came from.
    pub async fn refetch_documents(
        &self,
        image: &Image,
        damaged: &[Digest],
        credentials: &Keyring,
        progress: &ProgressSink,
    ) -> Result<String, Error> {
        let mut last = no_registry();
        let names = self.shared.index().references(&image.id);
        for reference in names.into_iter().filter(|name| name.digest.is_some()) {
            let asked = (&reference, Access::Pull, credentials.get(&reference.domain));
            let question = Documents { store: self, image, damaged };
            match ask(&self.config(), asked, unreachable, &question, progress).await {
                Ok(()) => return Ok(reference.name()),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    async fn refetch_documents_from(&self, place: &Repository, image: &Image, damaged: &[Digest]) -> Result<(), Error> {
        for digest in damaged {
            let fetched = if *digest == image.id {
                place.config(&document(digest)).await
            } else {
                place.manifest(digest).await.map(|manifest| manifest.bytes)
            };
            let bytes = fetched.map_err(|f| Error::Other(f.to_string()))?;
            let (store, digest, id) = (self.clone(), digest.clone(), image.id.clone());
            tokio::task::spawn_blocking(move || store.put_document(&digest, &bytes, &id))
                .await
                .map_err(|e| Error::Other(format!("document task: {e}")))??;
        }
        Ok(())
    }

    fn put_document(&self, digest: &str, bytes: &[u8], image_id: &str) -> Result<(), Error> {
        let shared = &self.shared;
        let work = shared.disk.work_directory()?;
        let draft = work.join("blob");
        let _serial = shared.commit_lock();
        let blobs = &shared.disk.blobs;
        let placed =
            write_draft(&draft, bytes).and_then(|()| blobs.adopt(&draft, digest)).and_then(|()| blobs.sync_names());
        // Best effort: empty by now, or gone at the next start.
        let _ = fs::remove_dir(&work);
        placed?;
        if digest == image_id {
            shared.index_mut().renew_document(image_id, config::parse(bytes)?);
        }
        Ok(())
    }
}

/// A layer that is to come again.
struct Refetched<'a> {
    store: &'a Store,
    source: &'a LayerSource,
    may_replace: &'a MayReplace,
}

impl Question for Refetched<'_> {
    type Answer = ();

    async fn put(&self, place: &Arc<Repository>) -> Result<(), Error> {
        self.store.refetch_from(place, self.source, self.may_replace.clone()).await
    }
}

/// Documents that are to come again.
struct Documents<'a> {
    store: &'a Store,
    image: &'a Image,
    damaged: &'a [Digest],
}

impl Question for Documents<'_> {
    type Answer = ();

    async fn put(&self, place: &Arc<Repository>) -> Result<(), Error> {
        self.store.refetch_documents_from(place, self.image, self.damaged).await
    }
}

fn no_registry() -> Error {
    Error::Other("no registry is known that has it".to_owned())
}

fn unreachable(failure: Failure) -> Error {
    Error::Other(failure.to_string())
}

/// A config by its digest alone; its size is bounded where it is read.
fn document(digest: &str) -> Descriptor {
    Descriptor { digest: digest.to_owned(), ..Descriptor::default() }
}
