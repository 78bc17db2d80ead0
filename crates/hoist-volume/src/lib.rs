//! Named and anonymous local volumes: directories below `<root>/volumes/<name>/_data`, their records, who holds them.
//!
//! Owns those directories, the tables `volume` and `volume_hold`, and the mounts of volumes that are one (`type`, `o` and
//! `device` options, see `mounted`). A directory of the host that such a volume binds says [`Volume::mount_spec`]; the
//! caller binds it.

#![forbid(unsafe_code)]

mod copy_up;
mod directory;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod holds;
mod merged;
mod mounted;
mod options;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hoist_db::Db;

pub use holds::By;
pub use options::MountSpec;

/// The only driver there is.
const LOCAL: &str = "local";
/// Label by which Docker's clients tell anonymous volumes.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

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

impl Volume {
    /// What to mount for this volume when its options ask for more than its own directory: `None` for a plain volume.
    pub fn mount_spec(&self) -> Option<MountSpec> {
        options::mount_spec(&self.options)
    }

    /// The same, but only for what is mounted at the mountpoint and not bound from elsewhere.
    pub fn own_mount(&self) -> Option<MountSpec> {
        self.mount_spec().filter(|spec| !spec.is_bind())
    }
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

impl From<hoist_db::Error> for Error {
    fn from(error: hoist_db::Error) -> Error {
        Error::Other(error.to_string())
    }
}

/// What became of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Removed,
}

/// Hears of volumes that come and go, whoever made or removed them: told the change and the volume's name.
struct Listener(Box<dyn Tell>);

/// What a [`Listener`] is told with.
trait Tell: Fn(Change, &str) + Send + Sync {}

impl<F: Fn(Change, &str) + Send + Sync> Tell for F {}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// All volumes of one engine. Thread-safe, blocking.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    db: Db,
    listener: Option<Listener>,
    /// Held while a directory and its record change together.
    changes: Mutex<()>,
    uses: Mutex<mounted::Uses>,
}

impl Volumes {
    /// Opens the store and finishes what a crash left half done. `root` is the engine's root directory.
    pub fn open(root: &Path, db: Db) -> Result<Volumes, Error> {
        store::migrate(&db)?;
        let (changes, uses) = (Mutex::new(()), Mutex::default());
        let volumes = Volumes { root: root.join("volumes"), db, listener: None, changes, uses };
        directory::prepare_root(&volumes.root)?;
        let known: Vec<String> = store::list(&volumes.db, &volumes.root)?.into_iter().map(|v| v.name).collect();
        directory::recover(&volumes.root, &known)?;
        Ok(volumes)
    }

    /// Tells `listener` of every volume that is made or removed from now on.
    #[must_use]
    pub fn telling(self, listener: impl Fn(Change, &str) + Send + Sync + 'static) -> Volumes {
        Volumes { listener: Some(Listener(Box::new(listener))), ..self }
    }

    fn tell(&self, change: Change, name: &str) {
        if let Some(Listener(listener)) = &self.listener {
            listener(change, name);
        }
    }

    /// Finds or makes; an empty name makes an anonymous one with a 64-hex name, which nobody holds.
    pub fn create(
        &self,
        name: &str,
        driver: &str,
        options: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, Error> {
        self.make(name, driver, options, labels, None)
    }

    /// Finds or makes; a new one is held by `holder`.
    fn make(
        &self,
        name: &str,
        driver: &str,
        options: BTreeMap<String, String>,
        mut labels: BTreeMap<String, String>,
        holder: Option<&str>,
    ) -> Result<Volume, Error> {
        let anonymous = name.is_empty();
        let name = if anonymous { random_name()? } else { name.to_owned() };
        if !matches!(driver, "" | LOCAL) {
            let text = format!("create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found");
            return Err(Error::Invalid(text));
        }
        options::check_name(&name)?;
        options::check(&name, &options)?;
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let _changes = self.lock();
        if let Some(found) = store::get(&self.db, &self.root, &name)? {
            return Ok(found);
        }
        // The directory comes first: a record always has its directory, an empty directory without a record is swept.
        let mountpoint = directory::make(&self.root, &name)?;
        let created_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
        let volume = Volume {
            name,
            driver: LOCAL.to_owned(),
            mountpoint,
            created_ns: i64::try_from(created_ns).unwrap_or(i64::MAX),
            labels,
            options,
            anonymous,
        };
        if let Err(error) = store::insert(&self.db, &volume, holder) {
            directory::remove_if_empty(&self.root, &volume.name);
            return Err(error);
        }
        self.tell(Change::Created, &volume.name);
        Ok(volume)
    }

    pub fn get(&self, name: &str) -> Result<Volume, Error> {
        store::get(&self.db, &self.root, name)?.ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    /// In name order; empty when the database cannot be read.
    pub fn list(&self) -> Vec<Volume> {
        store::list(&self.db, &self.root).unwrap_or_default()
    }

    /// `force`: a missing one is fine.
    pub fn remove(&self, name: &str, force: bool) -> Result<(), Error> {
        let _changes = self.lock();
        if store::get(&self.db, &self.root, name)?.is_none() {
            return if force { Ok(()) } else { Err(Error::NotFound(name.to_owned())) };
        }
        let users = store::holders(&self.db, name)?;
        if !users.is_empty() {
            return Err(Error::InUse { name: name.to_owned(), users: users.join(", ") });
        }
        self.discard(name)
    }

    /// Removes a volume, with the holds on it; `changes` is held.
    fn discard(&self, name: &str) -> Result<(), Error> {
        // Out of sight, then out of the books, then gone: after a crash `recover` knows by the record which way to go.
        let trash = directory::set_aside(&self.root, name)?;
        if let Err(error) = store::delete(&self.db, name) {
            directory::put_back(&self.root, name, trash.as_deref())?;
            return Err(error);
        }
        self.tell(Change::Removed, name);
        trash.map_or(Ok(()), |trash| directory::remove_tree(&trash))
    }

    /// Ids of the containers that hold a volume, sorted.
    pub fn holders(&self, name: &str) -> Vec<String> {
        store::holders(&self.db, name).unwrap_or_default()
    }

    /// Docker's copy-up: if the volume is empty, fills it from `path` as seen in the image's layers (topmost first, overlay
    /// whiteouts and opaque directories honoured, symlinks resolved inside the merged tree only), with owner, mode,
    /// times, xattrs. The volume's root directory takes owner and mode of the image's directory. A volume that is a
    /// mount of its own ([`Volume::mount_spec`]) is left as it is. After an error the volume is as empty as before.
    pub fn copy_up(&self, name: &str, layers: &[PathBuf], path: &Path) -> Result<(), Error> {
        let volume = self.get(name)?;
        if volume.mount_spec().is_some() {
            return Ok(());
        }
        let _changes = self.lock();
        directory::finish_copy(&self.root, name)?;
        if !directory::is_empty(&volume.mountpoint)? {
            return Ok(());
        }
        let Some(source) = merged::resolve(layers, path)? else { return Ok(()) };
        let staging = directory::staging(&self.root, name)?;
        if let Err(error) = copy_up::copy_tree(source, &staging) {
            directory::remove_tree(&staging)?;
            return Err(error);
        }
        directory::staged(&self.root, name)?;
        directory::finish_copy(&self.root, name)
    }

    fn uses(&self) -> MutexGuard<'_, mounted::Uses> {
        // Changed entry by entry: a panic leaves it sound.
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // The mutex guards no data: what a panic left half done is what `recover` and `finish_copy` mend.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_name() -> Result<String, Error> {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| Error::Other(format!("name for a new volume: {errno}")))?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
