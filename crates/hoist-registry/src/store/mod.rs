//! What the registry has: blobs by digest, unfinished uploads, and the database that says which repository has what. All of
//! it blocks; handlers come here by `run`.
//!
//! A blob's bytes are on disk before the record that makes them visible; what no record names is garbage. Files are given
//! names and taken away under one lock, so that what is being pushed is never what is being collected.

mod collect;
mod records;
mod uploads;

use std::collections::HashSet;
use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_db::Db;
use hoist_image::blobs::{self, Algorithm, Blobs, Hasher};
use tokio::sync::Notify;

use crate::error::Error;
use crate::manifest::{self, Manifest};
use crate::now_ns;
pub(crate) use records::{Found, Referrer, StoredManifest};
pub(crate) use uploads::{Sink, Uploads};

/// Configs larger than this are not looked into for a description.
const CONFIG_MAX_BYTES: u64 = 1 << 20;

/// Everything below one root directory.
pub(crate) struct Store {
    blobs: Blobs,
    drafts: PathBuf,
    db: Db,
    pub(crate) uploads: Uploads,
    keep_unreferenced: Duration,
    /// Held while files and their records change together.
    commit: Mutex<()>,
    /// There may be something to collect.
    garbage: Notify,
    /// Locked as long as this server lives.
    _lock: File,
}

/// A manifest as it was pushed.
pub(crate) struct Push<'a> {
    pub(crate) repository: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) manifest: &'a Manifest,
    pub(crate) tags: &'a [String],
}

impl Store {
    /// Opens the store below `root`, made if absent; ends what a crash left behind. Another server on it is an error.
    pub(crate) fn open(root: &Path, keep_unreferenced: Duration) -> Result<Store, String> {
        let text = |e: Error| e.cause.unwrap_or(e.message);
        fs::create_dir_all(root).map_err(|e| format!("create {}: {e}", root.display()))?;
        fs::set_permissions(root, Permissions::from_mode(0o700))
            .map_err(|e| format!("chmod {}: {e}", root.display()))?;
        let lock = lock(&root.join("lock"))?;
        let blobs =
            Blobs::open(&root.join("blobs"), &[Algorithm::Sha256, Algorithm::Sha512]).map_err(|e| e.to_string())?;
        let drafts = root.join("drafts");
        // Manifests on their way; a crash leaves some.
        if drafts.exists() {
            fs::remove_dir_all(&drafts).map_err(|e| format!("remove {}: {e}", drafts.display()))?;
        }
        fs::create_dir(&drafts).map_err(|e| format!("create {}: {e}", drafts.display()))?;
        let db = Db::open(&root.join("registry.db")).map_err(|e| e.to_string())?;
        records::migrate(&db).map_err(text)?;
        let uploads = Uploads::open(root.join("uploads"), db.clone()).map_err(text)?;
        let (commit, garbage) = (Mutex::new(()), Notify::new());
        let store = Store { blobs, drafts, db, uploads, keep_unreferenced, commit, garbage, _lock: lock };
        store.remove_strangers().map_err(text)?;
        Ok(store)
    }

    /// Calls something that blocks, on a thread that may.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Store>,
        call: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        let called = tokio::task::spawn_blocking(move || call(&store)).await;
        called.map_err(|e| Error::internal(e.to_string()))?
    }

    /// Takes an upload for one request; another one that has it is waited for, for a while.
    pub(crate) async fn take_upload(self: &Arc<Store>, repository: String, id: String) -> Result<Sink, Error> {
        let wanted = id.clone();
        let slot = self.run(move |store| store.uploads.slot(&repository, &wanted).map(|slot| (slot, repository)));
        let (slot, repository) = slot.await?;
        let hashed =
            tokio::time::timeout(uploads::WAIT, slot.lock_owned()).await.map_err(|_| Error::upload_busy(&id))?;
        self.run(move |store| store.uploads.open_taken(repository, id, hashed)).await
    }

    fn commit_lock(&self) -> MutexGuard<'_, ()> {
        // What a panic left undone has no record, and is garbage.
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A blob's size if the repository has it; that somebody asks keeps it for a while: it is how a push finds out what it
    /// need not send.
    pub(crate) fn blob_size(&self, repository: &str, digest: &str) -> Result<u64, Error> {
        let found = self.db.write(|tx| records::touch_blob(tx, repository, digest, now_ns()))?;
        found.ok_or_else(|| Error::blob_unknown(digest))
    }

    /// A blob's file and size.
    pub(crate) fn open_blob(&self, repository: &str, digest: &str) -> Result<(File, u64), Error> {
        let size = self.db.read(|c| records::blob_size(c, repository, digest))?;
        let size = size.ok_or_else(|| Error::blob_unknown(digest))?;
        let path = self.blobs.path(digest)?;
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let there = file.metadata().map_err(Error::io("stat", &path))?.len();
        if there != size {
            return Err(Error::internal(format!("{} has {there} bytes, {size} are recorded", path.display())));
        }
        Ok((file, size))
    }

    /// Makes an upload's bytes a blob of its repository. They must have this digest; if not, the upload is gone.
    pub(crate) fn finish_upload(&self, mut sink: Sink, digest: &str) -> Result<(), Error> {
        let found = sink.digest(blobs::parse_digest(digest).map_err(Error::digest_invalid)?.0)?;
        if found != digest {
            self.uploads.remove(&sink)?;
            return Err(Error::digest_invalid(format!("the uploaded content has digest {found}, not {digest}")));
        }
        sink.sync()?;
        let (repository, size) = (sink.repository().to_owned(), sink.length());
        let _serial = self.commit_lock();
        self.blobs.adopt(sink.path(), digest)?;
        self.blobs.sync_names()?;
        self.db.write_durable(|tx| {
            records::put_blob(tx, digest, size)?;
            records::link_blob(tx, &repository, digest, now_ns())?;
            records::drop_upload(tx, sink.id())
        })?;
        self.uploads.forget(&sink);
        Ok(())
    }

    /// Gives a repository a blob that another one has, or any if `from` is none. False if there is no such blob.
    pub(crate) fn mount(&self, repository: &str, digest: &str, from: Option<&str>) -> Result<bool, Error> {
        let _serial = self.commit_lock();
        Ok(self.db.write_durable(|tx| {
            if !records::has_blob(tx, from, digest)? {
                return Ok(false);
            }
            records::link_blob(tx, repository, digest, now_ns()).map(|()| true)
        })?)
    }

    /// Takes a blob from a repository. One that a manifest needs stays.
    pub(crate) fn delete_blob(&self, repository: &str, digest: &str) -> Result<(), Error> {
        let _serial = self.commit_lock();
        let user = self.db.read(|c| records::manifest_with(c, repository, digest))?;
        if let Some(manifest) = user {
            return Err(Error::unsupported(format!(
                "manifest {manifest} needs blob {digest}: delete the manifest first"
            )));
        }
        if !self.db.write_durable(|tx| records::unlink_blob(tx, repository, digest))? {
            return Err(Error::blob_unknown(digest));
        }
        self.garbage.notify_one();
        Ok(())
    }

    /// Records a manifest and puts tags on it. All that it names must be there.
    pub(crate) fn put_manifest(&self, push: &Push<'_>) -> Result<(), Error> {
        let draft = self.drafts.join(format!("{:032x}", rand::random::<u128>()));
        blobs::write_draft(&draft, push.bytes)?;
        let put = self.put_drafted(push, &draft);
        if put.is_err() {
            // Not there once it has its name.
            _ = fs::remove_file(&draft);
        }
        put
    }

    fn put_drafted(&self, push: &Push<'_>, draft: &Path) -> Result<(), Error> {
        let _serial = self.commit_lock();
        if let Some(missing) = self.db.read(|c| records::missing_target(c, push.repository, &push.manifest.targets))? {
            return Err(match missing.recorded_size {
                None => Error::manifest_blob_unknown(&missing.digest),
                Some(size) => Error::size_invalid(format!(
                    "the manifest says that {} has {} bytes, it has {size}",
                    missing.digest, missing.said_size
                )),
            });
        }
        let description = self.description(push.repository, push.manifest);
        self.blobs.adopt(draft, push.digest)?;
        self.blobs.sync_names()?;
        self.db.write_durable(|tx| records::put_manifest(tx, push, description.as_deref(), now_ns()))?;
        Ok(())
    }

    /// What an image says that it is.
    fn description(&self, repository: &str, manifest: &Manifest) -> Option<String> {
        let text = manifest.annotations.get(manifest::DESCRIPTION).cloned();
        text.or_else(|| {
            let config = manifest.config.as_deref()?;
            let size = self.db.read(|c| records::blob_size(c, repository, config)).ok()??;
            if size > CONFIG_MAX_BYTES {
                return None;
            }
            manifest::description_in_config(&self.blobs.read(config).ok()?)
        })
    }

    /// A manifest's record, by tag or digest.
    pub(crate) fn manifest(
        &self,
        repository: &str,
        reference: &crate::route::Reference,
    ) -> Result<StoredManifest, Error> {
        let found = self.db.read(|c| records::manifest(c, repository, reference))?;
        found.ok_or_else(|| Error::manifest_unknown(reference.as_str()))
    }

    /// A manifest's bytes, checked.
    pub(crate) fn manifest_bytes(&self, digest: &str) -> Result<Vec<u8>, Error> {
        Ok(self.blobs.read(digest)?)
    }

    /// Removes a tag; what it named stays.
    pub(crate) fn delete_tag(&self, repository: &str, tag: &str) -> Result<(), Error> {
        let found = self.db.write_durable(|tx| records::drop_tag(tx, repository, tag))?;
        if found { Ok(()) } else { Err(Error::manifest_unknown(tag)) }
    }

    /// Removes a manifest and its tags.
    pub(crate) fn delete_manifest(&self, repository: &str, digest: &str) -> Result<(), Error> {
        let _serial = self.commit_lock();
        if !self.db.write_durable(|tx| records::drop_manifest(tx, repository, digest))? {
            return Err(Error::manifest_unknown(digest));
        }
        self.garbage.notify_one();
        Ok(())
    }

    /// Tags after `last`, at most `count`, in the order of their bytes.
    pub(crate) fn tags(&self, repository: &str, last: &str, count: u32) -> Result<Vec<String>, Error> {
        let tags = self.db.read(|c| records::tags(c, repository, last, count))?;
        tags.ok_or_else(|| Error::name_unknown(repository))
    }

    /// Repositories with manifests, likewise.
    pub(crate) fn repositories(&self, last: &str, count: u32) -> Result<Vec<String>, Error> {
        Ok(self.db.read(|c| records::repositories(c, last, count))?)
    }

    /// Manifests about another one, by digest, after `last`.
    pub(crate) fn referrers(
        &self,
        repository: &str,
        subject: &str,
        artifact_type: Option<&str>,
        (last, count): (&str, u32),
    ) -> Result<Vec<Referrer>, Error> {
        Ok(self.db.read(|c| records::referrers(c, repository, subject, artifact_type, (last, count)))?)
    }

    /// Repositories whose name or description has a word in it: how many there are, and one page of them, the best first.
    pub(crate) fn search(&self, term: &str, (offset, count): (u64, u32)) -> Result<(u64, Vec<Found>), Error> {
        Ok(self.db.read(|c| records::search(c, term, offset, count))?)
    }

    /// Removes files that no record names: left by a crash.
    fn remove_strangers(&self) -> Result<(), Error> {
        let known = self.db.read(records::blobs)?;
        let known: HashSet<&str> = known.iter().map(String::as_str).collect();
        for path in self.blobs.strangers(&known)? {
            tracing::info!(path = %path.display(), "removed: no repository has it");
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }
}

/// `<algorithm>:<hex>` of a document.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path).map_err(|e| format!("create {}: {e}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(format!("{} is locked: another registry serves this directory, choose another --root", path.display()))
        }
        Err(TryLockError::Error(e)) => Err(format!("lock {}: {e}", path.display())),
    }
}

#[cfg(test)]
mod tests;
