//! Unfinished uploads: a file and a record each. They outlive the server; one that nobody used for a week goes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hoist_db::Db;
use hoist_image::blobs::{Algorithm, Hasher};
use tokio::sync::OwnedMutexGuard;

use super::records;
use crate::error::Error;
use crate::now_ns;

const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// With more than this, the one that was left alone longest goes.
const UPLOADS_MAX: u32 = 10_000;
/// How long a request waits for another one that writes to the same upload: that may be one whose connection just broke.
pub(super) const WAIT: Duration = Duration::from_secs(5);

pub(crate) struct Uploads {
    directory: PathBuf,
    db: Db,
    /// Those that were used since the server began.
    known: Mutex<HashMap<String, Slot>>,
}

/// Held by the request that writes.
pub(super) type Slot = Arc<tokio::sync::Mutex<Hashed>>;

/// How far an upload's bytes are hashed. None: they must be read again.
#[derive(Default)]
pub(super) struct Hashed {
    hasher: Option<Hasher>,
    bytes: u64,
}

/// An upload that one request writes to.
pub(crate) struct Sink {
    id: String,
    repository: String,
    path: PathBuf,
    file: File,
    length: u64,
    hashed: OwnedMutexGuard<Hashed>,
}

impl Uploads {
    /// Opens the directory; files without a record and records without a file go.
    pub(crate) fn open(directory: PathBuf, db: Db) -> Result<Uploads, Error> {
        fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).map_err(Error::io("chmod", &directory))?;
        let uploads = Uploads { directory, db, known: Mutex::default() };
        let recorded = uploads.db.read(records::uploads)?;
        let mut orphans: HashSet<&str> = recorded.iter().map(String::as_str).collect();
        for entry in fs::read_dir(&uploads.directory).map_err(Error::io("read", &uploads.directory))? {
            let path = entry.map_err(Error::io("read", &uploads.directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !orphans.remove(name) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        uploads.db.write(|tx| orphans.iter().try_for_each(|id| records::drop_upload(tx, id)))?;
        Ok(uploads)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new, empty one; returns its id.
    pub(crate) fn begin(&self, repository: &str, algorithm: Algorithm) -> Result<String, Error> {
        let id = new_id();
        let path = self.path(&id);
        OpenOptions::new().write(true).create_new(true).open(&path).map_err(Error::io("create", &path))?;
        self.db.write(|tx| records::put_upload(tx, &id, repository, now_ns()))?;
        let hashed = Hashed { hasher: Some(Hasher::new(algorithm)), bytes: 0 };
        self.known().insert(id.clone(), Arc::new(tokio::sync::Mutex::new(hashed)));
        Ok(id)
    }

    /// Where one waits for an upload; it counts as used now.
    pub(super) fn slot(&self, repository: &str, id: &str) -> Result<Slot, Error> {
        if !self.db.write(|tx| records::touch_upload(tx, id, repository, now_ns()))? {
            return Err(Error::upload_unknown(id));
        }
        Ok(self.known().entry(id.to_owned()).or_default().clone())
    }

    /// Opens an upload whose turn it is.
    pub(super) fn open_taken(
        &self,
        repository: String,
        id: String,
        hashed: OwnedMutexGuard<Hashed>,
    ) -> Result<Sink, Error> {
        let path = self.path(&id);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            // It ended while we waited.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.known().remove(&id);
                return Err(Error::upload_unknown(&id));
            }
            other => other.map_err(Error::io("open", &path))?,
        };
        let length = file.metadata().map_err(Error::io("stat", &path))?.len();
        Ok(Sink { id, repository, path, file, length, hashed })
    }

    /// Ends an upload without a blob.
    pub(crate) fn remove(&self, sink: &Sink) -> Result<(), Error> {
        self.remove_by_id(&sink.id)
    }

    fn remove_by_id(&self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(e)),
            _ => {}
        }
        self.db.write(|tx| records::drop_upload(tx, id))?;
        self.known().remove(id);
        Ok(())
    }

    /// The upload became a blob.
    pub(crate) fn forget(&self, sink: &Sink) {
        self.known().remove(&sink.id);
    }

    /// Removes what nobody used for too long.
    pub(crate) fn expire(&self) -> Result<(), Error> {
        let before = now_ns().saturating_sub(i64::try_from(LIFE.as_nanos()).unwrap_or(i64::MAX));
        for id in self.db.read(|c| records::idle_uploads(c, before, UPLOADS_MAX))? {
            let slot = self.known().get(&id).cloned();
            // One that is being written to is not idle, however long its request takes.
            let is_busy = slot.as_ref().is_some_and(|slot| slot.try_lock().is_err());
            if !is_busy {
                tracing::info!(upload = id, "expired");
                self.remove_by_id(&id)?;
            }
        }
        Ok(())
    }
}

impl Sink {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes at the end. After an error, what is there is what [`Uploads::take`] finds.
    pub(crate) fn write(&mut self, parts: &[Bytes]) -> Result<(), Error> {
        for part in parts {
            self.file.write_all(part).map_err(Error::io("write", &self.path))?;
            if self.hashed.bytes == self.length
                && let Some(hasher) = &mut self.hashed.hasher
            {
                hasher.update(part);
                self.hashed.bytes += part.len() as u64;
            }
            self.length += part.len() as u64;
        }
        Ok(())
    }

    /// Takes back what came after the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: u64) -> Result<(), Error> {
        self.file.set_len(length).map_err(Error::io("truncate", &self.path))?;
        self.length = length;
        if self.hashed.bytes != length {
            *self.hashed = Hashed::default();
        }
        Ok(())
    }

    /// The digest of all bytes; they are read again where that is needed.
    pub(crate) fn digest(&mut self, algorithm: Algorithm) -> Result<String, Error> {
        if let Some(hasher) = &self.hashed.hasher
            && hasher.algorithm() == algorithm
            && self.hashed.bytes == self.length
        {
            return Ok(hasher.finish());
        }
        let mut hasher = Hasher::new(algorithm);
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        hasher.read_from(file.take(self.length)).map_err(Error::io("read", &self.path))?;
        Ok(hasher.finish())
    }

    /// Waits until the bytes are on disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io("sync", &self.path))
    }
}

/// A random UUID (RFC 9562 version 4).
fn new_id() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut id = String::with_capacity(36);
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        id.push_str(&format!("{byte:02x}"));
    }
    id
}
