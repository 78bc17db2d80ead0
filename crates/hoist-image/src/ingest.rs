//! Bringing images in: layers are unpacked into a work directory, checked, and become visible together with their
//! images in one transaction, or not at all. Pull, load and import differ only in where bytes come from.

mod bounded;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hoist_api::reference::Reference;

use crate::digest::HashingReader;
use crate::partial::Settled;
use crate::records::{self, ImageRecord, LayerBytes, SourceDraft};
use crate::unpack::{Target, Whiteouts};
use crate::{Error, Shared, blobs, config, digest, disk, index};

/// A layer unpacked and hashed, not yet visible.
#[derive(Debug)]
pub(crate) struct LayerDraft {
    pub(crate) diff_id: String,
    pub(crate) bytes: LayerBytes,
    /// Of the bytes as they came.
    pub(crate) compressed_digest: String,
    directory: PathBuf,
}

/// An image about to become visible.
#[derive(Debug)]
pub(crate) struct ImageDraft {
    /// The config document, byte for byte: its digest is the image's id.
    pub(crate) config: Vec<u8>,
    pub(crate) config_media_type: String,
    /// Manifests by which the image came: digest, media type, bytes.
    pub(crate) manifests: Vec<(String, String, Vec<u8>)>,
    /// Where its layers came from.
    pub(crate) sources: Vec<SourceDraft>,
    /// Tags and digest references to put on it.
    pub(crate) names: Vec<Reference>,
    pub(crate) parent: Option<String>,
    /// When a user put a tag on it; a pull or load does not count, as for Docker.
    pub(crate) tagged_ns: i64,
    /// Whether it is made in this moment, out of a container or a root filesystem, rather than an image already. Of one that
    /// is here nothing changes by that.
    pub(crate) made_here: bool,
}

/// A name that another image had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    pub(crate) reference: Reference,
    pub(crate) from: String,
}

/// Work in progress. Dropping it takes away whatever was not committed.
#[derive(Debug)]
pub(crate) struct Ingest {
    shared: Arc<Shared>,
    directory: PathBuf,
    serial: AtomicU64,
    drafts: Mutex<HashMap<String, LayerDraft>>,
    held: Mutex<Vec<String>>,
}

impl Ingest {
    pub(crate) fn begin(shared: &Arc<Shared>) -> Result<Ingest, Error> {
        let directory = shared.disk.work_directory()?;
        Ok(Ingest {
            shared: shared.clone(),
            directory,
            serial: AtomicU64::new(0),
            drafts: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// Whether the layer is there already; if so it stays until this work ends.
    pub(crate) fn hold_existing(&self, diff_id: &str) -> bool {
        if self.drafts.lock().unwrap_or_else(PoisonError::into_inner).contains_key(diff_id) {
            return true;
        }
        let mut index = self.shared.index_mut();
        if index.layer_size(diff_id).is_none() {
            return false;
        }
        index.hold(&[diff_id.to_owned()]);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(diff_id.to_owned());
        true
    }

    /// Unpacks a layer, compressed or not, hashing both forms on the way. Reads `reader` to its end. Blocking.
    pub(crate) fn unpack(&self, reader: impl Read, whiteouts: Whiteouts) -> Result<LayerDraft, Error> {
        self.unpack_hashed(&mut HashingReader::new(reader), whiteouts).map_err(|e| register_error(&e))
    }

    /// The same for a layer whose compressed digest is known beforehand. Bytes that do not have it are the reason to
    /// tell, whatever unpacking them stumbled over.
    pub(crate) fn unpack_verified(
        &self,
        reader: impl Read,
        whiteouts: Whiteouts,
        expected: &str,
    ) -> Result<LayerDraft, Error> {
        let mut hashing = HashingReader::new(reader);
        let differs = || Error::Other(format!("filesystem layer verification failed for digest {expected}"));
        match self.unpack_hashed(&mut hashing, whiteouts) {
            Ok(draft) if draft.compressed_digest == expected => Ok(draft),
            Ok(draft) => {
                self.discard(&draft);
                Err(differs())
            }
            Err(e) if is_about_content(&e) && hashing.drain().is_ok() && hashing.finish() != expected => Err(differs()),
            Err(e) => Err(register_error(&e)),
        }
    }

    /// The same for a stream that may turn out to be no layer at all: what is wrong with the bytes themselves comes back as
    /// the inner error, what is wrong here (a full disk) as the outer one.
    pub(crate) fn try_unpack(
        &self,
        reader: impl Read,
        whiteouts: Whiteouts,
    ) -> Result<Result<LayerDraft, Error>, Error> {
        match self.unpack_hashed(&mut HashingReader::new(reader), whiteouts) {
            Ok(draft) => Ok(Ok(draft)),
            Err(e) if is_about_content(&e) => Ok(Err(register_error(&e))),
            Err(e) => Err(register_error(&e)),
        }
    }

    fn unpack_hashed(&self, compressed: &mut HashingReader<impl Read>, whiteouts: Whiteouts) -> io::Result<LayerDraft> {
        let directory = self.work_path("layer");
        let (content, trash) = (directory.join("diff"), directory.join("trash"));
        let record = directory.join("record");
        let target = Target { content: &content, trash: &trash, record: &record };
        let prepared = [&directory, &content, &trash].into_iter().try_for_each(fs::create_dir);
        let unpacked = prepared.and_then(|()| bounded::unpack(compressed, target, whiteouts));
        match unpacked.and_then(|done| fs::remove_dir(&trash).map(|()| done)) {
            Ok((diff_id, bytes)) => {
                let compressed_digest = compressed.finish();
                Ok(LayerDraft { diff_id, bytes, compressed_digest, directory })
            }
            Err(e) => {
                // Best effort: the work directory goes as a whole when this work ends.
                let _ = self.shared.disk.discard(&directory);
                Err(e)
            }
        }
    }

    /// Keeps a draft for the commit.
    pub(crate) fn keep(&self, draft: LayerDraft) {
        let before = self.drafts.lock().unwrap_or_else(PoisonError::into_inner).insert(draft.diff_id.clone(), draft);
        if let Some(before) = before {
            self.discard(&before);
        }
    }

    /// Makes a layer whose compressed digest was checked known before any image has it: it stays as long as this work or any other holds it, and is recorded
    /// with the first image.
    pub(crate) fn settle(&self, draft: LayerDraft) -> Result<(), Error> {
        let _serial = self.shared.commit_lock();
        if self.hold_existing(&draft.diff_id) {
            self.discard(&draft);
            return Ok(());
        }
        self.shared.disk.adopt_layer(&draft.directory, &draft.diff_id)?;
        let settled = Settled { bytes: draft.bytes, came_as: Some(draft.compressed_digest) };
        self.shared.partials.put_layer(&draft.diff_id, &settled);
        self.shared.index_mut().settle_layer(&draft.diff_id, settled.bytes, settled.came_as);
        self.hold_existing(&draft.diff_id);
        Ok(())
    }

    /// Puts a draft in the place of the same layer, which is known; one that was dropped meanwhile stays so.
    pub(crate) fn replace(&self, draft: &LayerDraft) -> Result<(), Error> {
        self.shared.disk.sync()?;
        let _serial = self.shared.commit_lock();
        if self.shared.index().layer_size(&draft.diff_id).is_none() {
            self.discard(draft);
            return Ok(());
        }
        self.shared.disk.replace_layer(&draft.directory, &draft.diff_id)?;
        self.shared.index_mut().set_disk_bytes(&draft.diff_id, None);
        let (layer, id) = (draft.diff_id.clone(), draft.diff_id.clone());
        let told = move |written: Result<(), hoist_db::Error>| {
            if let Err(e) = written {
                tracing::warn!(%layer, error = %e, "the layer may be counted as large as it was before its repair");
            }
        };
        self.shared.db.write_later(false, move |tx| records::set_disk_bytes(tx, &id, None), told);
        self.shared.disk.sync_names()
    }

    /// Takes away a draft that is not needed.
    pub(crate) fn discard(&self, draft: &LayerDraft) {
        if let Err(e) = self.shared.disk.discard(&draft.directory) {
            tracing::warn!(error = %e, "layer draft not removed, will be at next start");
        }
    }

    /// A fresh path in the work directory.
    pub(crate) fn work_path(&self, prefix: &str) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{prefix}-{serial}"))
    }

    /// Makes the images visible. On an error none of them is, and what was there before is as it was.
    pub(crate) fn commit(&self, images: &[ImageDraft]) -> Result<Vec<Renamed>, Error> {
        let documents = images.iter().map(|image| config::parse(&image.config)).collect::<Result<Vec<_>, _>>()?;
        let mut blobs = HashMap::new();
        self.draft_blobs(images, &mut blobs)?;
        let drafts = std::mem::take(&mut *self.drafts.lock().unwrap_or_else(PoisonError::into_inner));
        let needed = || documents.iter().flat_map(|document| &document.diff_ids);
        if !drafts.is_empty() || !self.shared.index().unrecorded(needed()).is_empty() {
            self.shared.disk.sync()?;
        }
        let _serial = self.shared.commit_lock();
        // What was here a moment ago may have been removed with its last image.
        self.draft_blobs(images, &mut blobs)?;
        let mut fresh: Vec<&LayerDraft> = Vec::new();
        for diff_id in needed() {
            if self.shared.index().layer_size(diff_id).is_some() || fresh.iter().any(|d| d.diff_id == *diff_id) {
                continue;
            }
            let draft = drafts.get(diff_id).ok_or_else(|| Error::Other(format!("layer {diff_id} is missing")))?;
            fresh.push(draft);
        }
        let mut layers = self.shared.index().unrecorded(needed());
        layers.extend(fresh.iter().map(|draft| (draft.diff_id.clone(), draft.bytes)));
        let placed = self.place(&blobs, &fresh).and_then(|()| self.record(images, &documents, &layers));
        if placed.is_err() {
            for draft in &fresh {
                // Best effort: no record names it, so the next start collects it.
                let _ = self.shared.disk.drop_layer(&draft.diff_id);
            }
        }
        placed
    }

    /// Configs and manifests that are not here, written and synced in the work directory: digest and path of each. A further
    /// name for an image that is here, such as one of its ten thousand tags, brings none.
    fn draft_blobs(&self, images: &[ImageDraft], blobs: &mut HashMap<String, PathBuf>) -> Result<(), Error> {
        for image in images {
            let config = (digest::of_bytes(&image.config), &image.config);
            let manifests = image.manifests.iter().map(|(digest, _, bytes)| (digest.clone(), bytes));
            for (digest, bytes) in std::iter::once(config).chain(manifests) {
                let is_here = || self.shared.disk.blobs.read(&digest).is_ok_and(|here| here == *bytes);
                if blobs.contains_key(&digest) || is_here() {
                    continue;
                }
                let draft = self.work_path("blob");
                blobs::write_draft(&draft, bytes)?;
                blobs.insert(digest, draft);
            }
        }
        Ok(())
    }

    /// Gives everything its final name.
    fn place(&self, blobs: &HashMap<String, PathBuf>, fresh: &[&LayerDraft]) -> Result<(), Error> {
        let disk = &self.shared.disk;
        blobs.iter().try_for_each(|(digest, draft)| disk.blobs.adopt(draft, digest))?;
        fresh.iter().try_for_each(|draft| disk.adopt_layer(&draft.directory, &draft.diff_id))?;
        if blobs.is_empty() && fresh.is_empty() { Ok(()) } else { disk.sync_names() }
    }

    fn record(
        &self,
        images: &[ImageDraft],
        documents: &[config::Document],
        layers: &[(String, LayerBytes)],
    ) -> Result<Vec<Renamed>, Error> {
        let now = crate::now_ns();
        let rows: Vec<ImageRecord> = images
            .iter()
            .zip(documents)
            .map(|(image, document)| ImageRecord {
                id: digest::of_bytes(&image.config),
                parent: image.parent.clone(),
                tagged_ns: image.tagged_ns,
                used_ns: now,
                made_here: image.made_here,
                diff_ids: document.diff_ids.clone(),
            })
            .collect();
        self.shared.db.write_durable(|tx| {
            for (diff_id, bytes) in layers {
                records::put_layer(tx, diff_id, *bytes)?;
            }
            for (image, row) in images.iter().zip(&rows) {
                records::put_image(tx, row)?;
                records::put_blob(tx, &row.id, &row.id, &image.config_media_type)?;
                for (digest, media_type, _) in &image.manifests {
                    records::put_blob(tx, &row.id, digest, media_type)?;
                }
                for source in &image.sources {
                    records::put_source(tx, source, now)?;
                }
                for name in &image.names {
                    records::put_name(tx, &index::lookup_key(name), &row.id)?;
                }
            }
            Ok(())
        })?;
        let mut index = self.shared.index_mut();
        for (diff_id, bytes) in layers {
            index.add_layer(diff_id, *bytes);
            self.shared.partials.forget_layer(diff_id);
        }
        let mut renamed = Vec::new();
        for ((image, row), document) in images.iter().zip(rows).zip(documents) {
            let id = row.id.clone();
            index.add_image(row, Some(document.clone()));
            for name in &image.names {
                if let Some(from) = index.put_name(&index::lookup_key(name), &id) {
                    renamed.push(Renamed { reference: name.clone(), from });
                }
            }
        }
        drop(index);
        self.shared.let_restored_go(|diff_id| layers.iter().any(|(id, _)| id == diff_id));
        Ok(renamed)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        let unused = self.shared.index_mut().let_go(&held);
        let swept = self.shared.sweep(unused);
        let removed = self.shared.disk.discard(&self.directory);
        if let Err(e) = swept.and(removed) {
            tracing::warn!(error = %e, "leftovers of image work stay until the next start");
        }
    }
}

fn register_error(source: &io::Error) -> Error {
    Error::Other(format!("failed to register layer: {source}"))
}

/// Whether unpacking failed because of what the bytes are rather than of where they go or come from.
fn is_about_content(error: &io::Error) -> bool {
    !disk::is_full(error) && error.kind() != io::ErrorKind::ConnectionAborted
}
