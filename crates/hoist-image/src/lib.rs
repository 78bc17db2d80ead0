//! Content store, registry client, layers, tags. Async where it speaks to registries, blocking underneath.
//! Knows nothing of containers: who uses an image says so with a lease.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use hoist_api::reference::Reference;
use hoist_api::image::ContainerConfig;
use hoist_db::Db;

/// `sha256:<64 hex>`
pub type Digest = String;

/// Settings (flags of `hoist engine`).
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub registry_mirrors: Vec<String>,
    /// Hosts, host:port or CIDRs spoken to without TLS verification or by plain HTTP; 127.0.0.0/8 and ::1 always are.
    pub insecure_registries: Vec<String>,
}

/// The images of one engine. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {}

/// An image as a user sees it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the config blob.
    pub id: Digest,
    /// The config's `config` object.
    pub config: ContainerConfig,
    /// The whole config document, parsed (history, rootfs, created, author, architecture, os, variant…).
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
    pub architecture: String,
    pub os: String,
    pub variant: String,
}

/// What a pull, load or import reports while it works; field by field Docker's JSON progress message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Layer short id or tag.
    pub id: Option<String>,
    pub status: Option<String>,
    pub stream: Option<String>,
    /// (current bytes, total bytes or 0)
    pub detail: Option<(u64, u64)>,
}

/// Receives progress; called from several tasks.
pub type ProgressSink = std::sync::Arc<dyn Fn(Progress) + Send + Sync>;

#[derive(Clone, Debug, Default)]
pub struct Credentials { pub username: String, pub password: String, pub identity_token: String, pub registry_token: String }

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform { pub os: String, pub architecture: String, pub variant: String }

/// A removed thing, in Docker's order (untagged first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed { Untagged(String), Deleted(Digest) }

/// What `rmi` needs to know from outside: who uses the image. `stopped`/`running` list container ids.
#[derive(Clone, Debug, Default)]
pub struct Users { pub stopped: Vec<String>, pub running: Vec<String> }

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker: `No such image: name:tag` (404)
    #[error("No such image: {0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unauthorized(String),
    #[error("{0}")]
    Other(String),
}

impl Store {
    /// Opens the store below `root` (made if absent, mode 0700 where containers need not enter); collects what no record names.
    pub fn open(root: &Path, db: Db, config: Config) -> Result<Store, Error> { let _ = (root, db, config); todo!() }
    /// By name, name:tag, name@digest, full id or unique id prefix (with or without `sha256:`). From memory, no disk, ~µs.
    pub fn get(&self, name: &str) -> Result<std::sync::Arc<Image>, Error> { let _ = name; todo!() }
    /// All images, newest first.
    pub fn list(&self) -> Vec<std::sync::Arc<Image>> { todo!() }
    /// Layer directories for an overlay, topmost first; an image without layers gives one empty directory.
    pub fn layer_paths(&self, image: &Image) -> Vec<PathBuf> { let _ = image; todo!() }
    /// Keeps the layers of `image` while `holder` (a container id) exists; survives restarts. Idempotent.
    pub fn lease(&self, holder: &str, image: &Image) -> Result<(), Error> { let _ = (holder, image); todo!() }
    pub fn release(&self, holder: &str) -> Result<(), Error> { let _ = holder; todo!() }
    /// Pulls one tag or digest (`all_tags`: every tag). The future may be dropped: nothing half-done becomes visible.
    pub async fn pull(&self, reference: &Reference, all_tags: bool, platform: Option<&Platform>, credentials: Option<&Credentials>,
        progress: ProgressSink) -> Result<(), Error> { let _ = (reference, all_tags, platform, credentials, progress); todo!() }
    /// `docker load`: docker-archive of any release or OCI layout tar, optionally gzip/zstd (xz, bzip2: clear error). Blocking.
    pub fn load(&self, tar: &mut dyn std::io::Read, progress: &ProgressSink) -> Result<(), Error> { let _ = (tar, progress); todo!() }
    /// `docker import`: a root filesystem tar becomes an image of one layer. Returns its id. Blocking.
    pub fn import(&self, tar: &mut dyn std::io::Read, reference: Option<&Reference>, config: &ContainerConfig, message: &str,
        platform: Option<&Platform>) -> Result<Digest, Error> { let _ = (tar, reference, config, message, platform); todo!() }
    pub fn tag(&self, image: &str, reference: &Reference) -> Result<(), Error> { let _ = (image, reference); todo!() }
    /// `docker rmi`, with Docker's rules and texts about several tags, children and containers that use it.
    pub fn remove(&self, name: &str, force: bool, no_prune: bool, users: &dyn Fn(&Image) -> Users) -> Result<Vec<Removed>, Error> {
        let _ = (name, force, no_prune, users); todo!() }
}
