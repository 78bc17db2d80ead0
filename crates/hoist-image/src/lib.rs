//! Content store, registry client, layers, tags. Async where it speaks to registries, blocking underneath.
//! Knows nothing of containers: who uses an image says so with a lease.
//!
//! Map: bytes come in by `registry` (pull), `load` or `import`; all three hand layers to `ingest`, which unpacks them
//! (`decompress`, `unpack`) and makes an image visible in one transaction. They go out by `push` and `save`, which write
//! each layer's tar again from its record. What there is lies in `disk` (directories; `blobs` has the files by digest) and
//! `records` (tables); `index` mirrors it in memory and answers every question; `signature` says whether a pull may go on and
//! `admission` whether the rest may; `upkeep` and `budget` say how long images stay, `partial` keeps pulls for the next engine.

#![forbid(unsafe_code)]

mod admission;
pub mod allocated;
pub mod blobs;
mod budget;
mod commit;
mod config;
mod decompress;
mod diff;
mod digest;
mod disk;
mod distribution;
mod downloads;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod import;
mod index;
mod ingest;
mod lease;
mod load;
mod manifest;
mod partial;
mod present;
mod progress;
mod pull;
mod push;
mod records;
mod registry;
mod remote;
mod remove;
mod save;
mod signature;
mod tags;
mod trash;
mod unpack;
mod upkeep;
mod verify;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hoist_api::image::ContainerConfig;
use hoist_api::reference::Reference;
use hoist_db::Db;

pub use budget::Choice;
pub use commit::Commit;
pub use distribution::Distribution;
pub use error::Error;
pub use history::HistoryEntry;
pub use hoist_api::platform::Platform;
pub use lease::LeaseChange;
pub use present::{KnownKind, KnownManifest};
pub use progress::{Progress, ProgressSink, Pushed};
pub use registry::{SearchResult, UrlSource};
pub use remote::{RemoteAccess, RemoteManifest, RemoteManifests};
pub use remove::{Force, Removed, Users};
pub use save::Archive;
pub use signature::policy::Policy;
pub use unpack::Damage;
pub use upkeep::DiskBytes;
pub use verify::MayReplace;

/// `sha256:<64 hex>`
pub type Digest = String;

/// Settings (flags of `hoist engine`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub registry_mirrors: Vec<String>,
    /// Hosts, host:port or CIDRs spoken to without TLS verification or by plain HTTP; 127.0.0.0/8 and ::1 always are.
    pub insecure_registries: Vec<String>,
    /// Address of the registry that answers searches which name none; empty: Docker Hub's index.
    pub search_index: String,
    /// Layers downloaded at a time; none is Docker's three.
    pub max_concurrent_downloads: Option<usize>,
    /// Attempts at a layer that make no progress; none is Docker's five.
    pub max_download_attempts: Option<u32>,
    /// Which images may come and be used; none is all of them.
    pub signature_policy: Option<Arc<Policy>>,
    /// Layers uploaded at a time; none is Docker's five.
    pub max_concurrent_uploads: Option<usize>,
    /// Where `<registry>/hosts.toml` and registries' certificates are; none is [`REGISTRY_DIRECTORY`].
    pub registry_config_dir: Option<PathBuf>,
}

/// So long whoever gives interrupted pulls up waits for them to go.
const FORGETTING_MAX: Duration = Duration::from_secs(1);

/// Where registries are configured unless a setting says otherwise.
pub const REGISTRY_DIRECTORY: &str = "/etc/hoist/certs.d";

impl Config {
    pub(crate) fn registry_directory(&self) -> &Path {
        self.registry_config_dir.as_deref().unwrap_or(Path::new(REGISTRY_DIRECTORY))
    }
}

/// The images of one engine. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: disk::Disk,
    pub(crate) db: Db,
    config: RwLock<Arc<Config>>,
    pub(crate) downloads: downloads::Downloads,
    pub(crate) partials: partial::Partials,
    /// Layers of pulls that an earlier engine began, held for a while.
    restored: Mutex<Vec<Digest>>,
    uploads: RwLock<Arc<tokio::sync::Semaphore>>,
    index: RwLock<index::Index>,
    /// Held while tables, directories and index change together; readers of the index do not wait for it.
    commit: Mutex<()>,
}

/// An image as a user sees it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Digest of the config blob.
    pub id: Digest,
    /// The config's `config` object.
    pub config: ContainerConfig,
    /// The whole config document, parsed (history, rootfs, created, author, architecture, os, variant…); null if its
    /// file could not be read, which is logged.
    pub document: serde_json::Value,
    /// `name:tag`, familiar form (`busybox:latest`), sorted.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`, familiar form.
    pub repo_digests: Vec<String>,
    pub diff_ids: Vec<Digest>,
    /// Bytes of the unpacked layers.
    pub size_bytes: u64,
    /// Unix seconds of the config's `created`; 0 if absent.
    pub created: i64,
    /// Unix nanoseconds when a tag was last put on it here; 0 never.
    pub last_tagged_ns: i64,
    /// Whether it, or a name of it, is kept from being pruned.
    pub is_pinned: bool,
    pub architecture: String,
    pub os: String,
    pub variant: String,
}

/// Credentials by the domain of their registry: nobody is sent another's.
pub type Keyring = std::collections::HashMap<String, Credentials>;

/// How to log in to a registry; empty fields are not used.
#[derive(Clone, Default)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub identity_token: String,
    pub registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store below `root` (made if absent, entered by root only); collects what no record names.
    pub fn open(root: &Path, db: Db, config: Config) -> Result<Store, Error> {
        records::migrate(&db)?;
        let disk = disk::Disk::open(root)?;
        let snapshot = records::read(&db)?;
        let partial = disk.partial();
        let partials = partial::Partials::open(&partial).map_err(Error::io("open", &partial))?;
        let mut restored = partials.layers();
        restored.retain(|diff_id, _| !snapshot.layers.contains_key(diff_id) && disk.has_layer(diff_id));
        let layers: HashSet<&str> = snapshot.layers.keys().chain(restored.keys()).map(String::as_str).collect();
        let blobs: HashSet<&str> = snapshot.blobs.iter().map(|(_, digest, _)| digest.as_str()).collect();
        disk.collect(&layers, &blobs)?;
        let index = RwLock::new(read_index(&disk, snapshot));
        let downloads = downloads::Downloads::new(config.max_concurrent_downloads);
        let uploads = RwLock::new(push::slots(config.max_concurrent_uploads));
        let config = RwLock::new(Arc::new(config));
        let (commit, held) = (Mutex::new(()), Mutex::default());
        let shared = Arc::new(Shared { disk, db, config, downloads, partials, restored: held, uploads, index, commit });
        shared.restore(restored);
        let unused = shared.index().unused_layers();
        shared.sweep(unused)?;
        Ok(Store { shared })
    }

    /// Changes the settings while pulls go on; those keep the ones they began with.
    pub fn reconfigure(&self, config: Config) {
        self.shared.downloads.set_parallel(config.max_concurrent_downloads);
        *self.shared.uploads.write().unwrap_or_else(PoisonError::into_inner) =
            push::slots(config.max_concurrent_uploads);
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// The settings as they are now.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config()
    }

    /// Gives up what is kept of interrupted pulls, and waits a moment until it is out of the way. Blocking.
    pub fn forget_interrupted(&self) {
        let is_gone = self.shared.downloads.forget_idle();
        self.shared.give_restored_up();
        let give_up_at = Instant::now() + FORGETTING_MAX;
        while !is_gone() && Instant::now() < give_up_at {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// By name, name:tag, name@digest, full id or unique id prefix (with or without `sha256:`). From memory, no disk.
    pub fn get(&self, name: &str) -> Result<Arc<Image>, Error> {
        self.shared.index().get(name)
    }

    /// All images, newest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.shared.index().list()
    }

    /// Layer directories for an overlay, topmost first; an image without layers gives one empty directory.
    pub fn layer_paths(&self, image: &Image) -> Vec<PathBuf> {
        let disk = &self.shared.disk;
        if image.diff_ids.is_empty() {
            return vec![disk.empty_layer()];
        }
        // An overlay refuses to stack a directory twice (ELOOP); the upper of two hides the other anyway.
        let mut seen = HashSet::new();
        image.diff_ids.iter().rev().filter(|id| seen.insert(*id)).map(|id| disk.layer_content(id)).collect()
    }

    /// Bytes of each layer, lowest first.
    pub fn layer_sizes(&self, image: &Image) -> Vec<(Digest, u64)> {
        let index = self.shared.index();
        image.diff_ids.iter().map(|id| (id.clone(), index.layer_size(id).unwrap_or(0))).collect()
    }

    /// Writes a layer's tar, uncompressed, byte for byte as it came, and checks it on the way. Fails for one that was
    /// damaged. Blocking.
    pub fn write_layer(&self, diff_id: &str, out: &mut dyn std::io::Write) -> Result<(), Error> {
        digest::hex_of(diff_id)?;
        let disk = &self.shared.disk;
        unpack::replay(&disk.layer_record(diff_id), &disk.layer_content(diff_id), out)
            .map_err(|e| Error::Other(format!("layer {diff_id} cannot be written as it came: {e}")))
    }

    /// Waits until what was removed so far is off the disk: it is out of the way at once, but freeing it takes a while.
    pub fn wait_until_freed(&self) {
        self.shared.disk.wait_for_janitor();
    }

    /// Puts in an image from memory, such as one built into the binary: its config document and its layers' tars, lowest
    /// first, compressed or not. Blocking.
    pub fn install(&self, reference: &Reference, config_json: &[u8], layers_tar: &[&[u8]]) -> Result<Digest, Error> {
        import::install(&self.shared, reference, config_json, layers_tar)
    }
}

impl Shared {
    fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What layers on their way out take turns by; those that hold a place when it changes keep it.
    fn uploads(&self) -> Arc<tokio::sync::Semaphore> {
        self.uploads.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, index::Index> {
        // The index is changed by whole calls that do not panic half-way; a reader's panic leaves it sound.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, index::Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a layer's tar.
    pub(crate) fn tar_bytes(&self, diff_id: &str) -> Result<u64, Error> {
        if let Some(bytes) = self.index().layer_tar_bytes(diff_id) {
            return Ok(bytes);
        }
        let record = self.disk.layer_record(diff_id);
        unpack::replayed_bytes(&record).map_err(Error::io("read", &record))
    }

    pub(crate) fn commit_lock(&self) -> MutexGuard<'_, ()> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes those of the layers that nobody needs. Must be called without the commit lock.
    pub(crate) fn sweep(&self, candidates: Vec<Digest>) -> Result<(), Error> {
        if candidates.is_empty() {
            return Ok(());
        }
        let _serial = self.commit_lock();
        self.sweep_locked(candidates)
    }

    /// The same for a caller that holds the commit lock.
    pub(crate) fn sweep_locked(&self, candidates: Vec<Digest>) -> Result<(), Error> {
        let gone: Vec<Digest> = {
            let mut index = self.index_mut();
            let unused: HashSet<Digest> = index.unused_layers().into_iter().collect();
            let gone: Vec<_> = candidates.into_iter().filter(|id| unused.contains(id)).collect();
            gone.iter().for_each(|id| index.drop_layer(id));
            gone
        };
        if gone.is_empty() {
            return Ok(());
        }
        // The record first: a crash in between leaves a directory that the next start collects.
        self.db.write(|tx| gone.iter().try_for_each(|id| records::drop_layer(tx, id)))?;
        gone.iter().for_each(|id| self.partials.forget_layer(id));
        gone.iter().try_for_each(|id| self.disk.drop_layer(id))
    }
}

fn read_index(disk: &disk::Disk, snapshot: records::Snapshot) -> index::Index {
    let mut index = index::Index::default();
    for (diff_id, bytes) in &snapshot.layers {
        if !disk.has_layer(diff_id) {
            tracing::error!(layer = %diff_id, "layer directory is missing: images with it cannot run until pulled again");
        }
        index.add_layer(diff_id, *bytes);
        index.set_disk_bytes(diff_id, snapshot.disk_bytes.get(diff_id).copied());
    }
    for record in snapshot.images {
        let document = disk.blobs.read(&record.id).and_then(|bytes| config::parse(&bytes));
        if let Err(e) = &document {
            tracing::error!(image = %record.id, error = %e, "image config cannot be read; the image is kept");
        }
        index.add_image(record, document.ok());
    }
    for (reference, id) in snapshot.names {
        index.put_name(&reference, &id);
    }
    for pinned in snapshot.pins {
        index.put_pin(&pinned);
    }
    for (id, voucher) in snapshot.vouchers {
        index.put_voucher(&id, voucher);
    }
    for (holder, diff_ids) in snapshot.leases {
        index.put_lease(&holder, diff_ids);
    }
    index
}

pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0)
}
