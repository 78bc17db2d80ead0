//! The store's directories: `blobs/sha256/<hex>`, `layers/<hex>/{diff,record}`, `tmp`, `trash`, `empty`. Owns paths, blob
//! files (`blobs`) and what "on disk for good" means; knows nothing of images.
//!
//! Removing a tree of thousands of files takes seconds on many disks. So it is moved to `trash`, which is one rename, and
//! a thread empties that; after a crash the next start goes on with it.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::blobs::{self, Algorithm, Blobs};
use crate::{Error, trash};

/// One store's directories.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    pub(crate) blobs: Blobs,
    serial: AtomicU64,
    janitor: Arc<Janitor>,
}

/// Empties one directory, by a thread that lives while there is something to do.
#[derive(Debug)]
struct Janitor {
    trash: PathBuf,
    work: Mutex<Work>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    asked: bool,
    running: bool,
}

impl Disk {
    pub(crate) fn open(root: &Path) -> Result<Disk, Error> {
        let trash = root.join("trash");
        let janitor = Janitor { trash: trash.clone(), work: Mutex::default(), idle: Condvar::new() };
        let blobs = Blobs::open(&root.join("blobs"), &[Algorithm::Sha256])?;
        let disk = Disk { root: root.to_owned(), blobs, serial: AtomicU64::new(0), janitor: Arc::new(janitor) };
        for (directory, mode) in [
            (disk.root.clone(), 0o700),
            (disk.layers(), 0o700),
            (disk.tmp(), 0o700),
            (trash, 0o700),
            (disk.empty_layer(), 0o755),
        ] {
            fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
            fs::set_permissions(&directory, Permissions::from_mode(mode)).map_err(Error::io("chmod", &directory))?;
        }
        Ok(disk)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Work in progress.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// What is kept of interrupted pulls.
    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// What is on its way out.
    pub(crate) fn trash(&self) -> PathBuf {
        self.janitor.trash.clone()
    }

    /// A directory without content, for images without layers.
    pub(crate) fn empty_layer(&self) -> PathBuf {
        self.root.join("empty")
    }

    /// All of one layer.
    pub(crate) fn layer(&self, diff_id: &str) -> PathBuf {
        self.layers().join(diff_id.trim_start_matches("sha256:"))
    }

    /// What an overlay stacks.
    pub(crate) fn layer_content(&self, diff_id: &str) -> PathBuf {
        self.layer(diff_id).join("diff")
    }

    /// What writes the layer's tar again.
    pub(crate) fn layer_record(&self, diff_id: &str) -> PathBuf {
        self.layer(diff_id).join("record")
    }

    /// A new directory of its own for work in progress; gone at the next start at the latest.
    pub(crate) fn work_directory(&self) -> Result<PathBuf, Error> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let directory = self.tmp().join(format!("{}-{serial}", std::process::id()));
        fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        Ok(directory)
    }

    /// Waits until everything written so far below the store is on disk, file data included.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let root = File::open(&self.root).map_err(Error::io("open", &self.root))?;
        // syncfs(2) reports write errors since Linux 5.8.
        rustix::fs::syncfs(&root).map_err(|e| Error::io("sync", &self.root)(e.into()))
    }

    /// Gives an unpacked layer its name. The caller has synced its content and knows that no record names it yet.
    pub(crate) fn adopt_layer(&self, draft: &Path, diff_id: &str) -> Result<(), Error> {
        let path = self.layer(diff_id);
        self.discard(&path)?;
        fs::rename(draft, &path).map_err(Error::io("rename", draft))
    }

    /// Puts an unpacked layer in the place of the one that has its name, if there is one, in one step. The caller has
    /// synced its content.
    pub(crate) fn replace_layer(&self, draft: &Path, diff_id: &str) -> Result<(), Error> {
        use rustix::fs::{CWD, RenameFlags};
        let path = self.layer(diff_id);
        match rustix::fs::renameat_with(CWD, draft, CWD, &path, RenameFlags::EXCHANGE) {
            Ok(()) => self.discard(draft),
            Err(rustix::io::Errno::NOENT) => fs::rename(draft, &path).map_err(Error::io("rename", draft)),
            Err(e) => Err(Error::io("rename", draft)(e.into())),
        }
    }

    /// Waits until the names of adopted blobs and layers are on disk.
    pub(crate) fn sync_names(&self) -> Result<(), Error> {
        self.blobs.sync_names()?;
        blobs::sync_directory(&self.layers())
    }

    /// Removes a layer that no record names.
    pub(crate) fn drop_layer(&self, diff_id: &str) -> Result<(), Error> {
        self.discard(&self.layer(diff_id))
    }

    /// Removes a tree or file of the store; one that is not there is fine. It is out of the way when this returns.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), Error> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{serial}", std::process::id(), crate::now_ns());
        match fs::rename(path, self.janitor.trash.join(name)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            // A name in another directory may need a block. Slower, and half-done after a crash; no record names it.
            Err(e) if is_full(&e) => remove_in_place(path).map_err(Error::io("remove", path)),
            Err(e) => Err(Error::io("rename", path)(e)),
            Ok(()) => {
                self.janitor.wake();
                Ok(())
            }
        }
    }

    /// Waits until everything discarded so far is off the disk.
    pub(crate) fn wait_for_janitor(&self) {
        let work = self.janitor.work.lock().unwrap_or_else(PoisonError::into_inner);
        // Poisoned or not, the flag says what there is to wait for.
        drop(self.janitor.idle.wait_while(work, |work| work.running));
    }

    pub(crate) fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_content(diff_id).is_dir()
    }

    /// Removes what no record names: left by a crash.
    pub(crate) fn collect(&self, layers: &HashSet<&str>, blobs: &HashSet<&str>) -> Result<(), Error> {
        let tmp = self.tmp();
        for entry in fs::read_dir(&tmp).map_err(Error::io("read", &tmp))? {
            self.discard(&entry.map_err(Error::io("read", &tmp))?.path())?;
        }
        let mut strangers = self.blobs.strangers(blobs)?;
        let directory = self.layers();
        for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
            let path = entry.map_err(Error::io("read", &directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !layers.contains(format!("sha256:{name}").as_str()) {
                strangers.push(path);
            }
        }
        for path in strangers {
            tracing::info!(path = %path.display(), "removed: no image has it");
            self.discard(&path)?;
        }
        self.janitor.wake();
        Ok(())
    }
}

/// Whether nothing more fits.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn remove_in_place(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        trash::empty(path)?;
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    }
}

impl Janitor {
    fn wake(self: &Arc<Janitor>) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.asked = true;
        if work.running {
            return;
        }
        let janitor = self.clone();
        let started = std::thread::Builder::new().name("image-trash".to_owned()).spawn(move || janitor.run());
        match started {
            Ok(_) => work.running = true,
            Err(e) => tracing::warn!(error = %e, "removed layers stay on disk until the next start"),
        }
    }

    fn run(&self) {
        loop {
            {
                let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
                if !std::mem::take(&mut work.asked) {
                    work.running = false;
                    self.idle.notify_all();
                    return;
                }
            }
            match trash::empty(&self.trash) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %self.trash.display(), error = %e, "removed layers stay on disk until the next start");
                }
                _ => {}
            }
        }
    }
}
