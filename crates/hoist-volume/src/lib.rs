//! Named and anonymous local volumes: directories below `<root>/volumes/<name>/_data`, their records, who holds them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoist_db::Db;

#[derive(Clone, Debug)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    /// `<root>/volumes/<name>/_data`
    pub mountpoint: PathBuf,
    pub created_ns: i64,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Made without a name, dropped with `rm -v` or `--rm`.
    pub anonymous: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("get {0}: no such volume")]
    NotFound(String),
    #[error("remove {name}: volume is in use - [{users}]")]
    InUse { name: String, users: String },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Other(String),
}

#[derive(Debug)]
pub struct Volumes {}

impl Volumes {
    pub fn open(root: &Path, db: Db) -> Result<Volumes, Error> { let _ = (root, db); todo!() }
    /// Finds or makes; an empty name makes an anonymous one with a 64-hex name.
    pub fn create(&self, name: &str, driver: &str, options: BTreeMap<String, String>, labels: BTreeMap<String, String>) -> Result<Volume, Error> {
        let _ = (name, driver, options, labels); todo!() }
    pub fn get(&self, name: &str) -> Result<Volume, Error> { let _ = name; todo!() }
    pub fn list(&self) -> Vec<Volume> { todo!() }
    /// `force`: a missing one is fine.
    pub fn remove(&self, name: &str, force: bool) -> Result<(), Error> { let _ = (name, force); todo!() }
    /// A container holds a volume from create to rm; held volumes cannot be removed. Idempotent, durable.
    pub fn hold(&self, name: &str, container_id: &str) -> Result<(), Error> { let _ = (name, container_id); todo!() }
    /// Drops all holds of a container; returns the anonymous volumes that nobody holds any more.
    pub fn drop_holds(&self, container_id: &str) -> Result<Vec<String>, Error> { let _ = container_id; todo!() }
    pub fn holders(&self, name: &str) -> Vec<String> { let _ = name; todo!() }
    /// Docker's copy-up: if the volume is empty, fills it from `path` as seen in the image's layers (topmost first, overlay
    /// whiteouts and opaque directories honoured, symlinks resolved inside the merged tree only), with owner, mode,
    /// times, xattrs. The volume's root directory takes owner and mode of the image's directory.
    pub fn copy_up(&self, name: &str, layers: &[PathBuf], path: &Path) -> Result<(), Error> { let _ = (name, layers, path); todo!() }
}
