//! The store's directories: `blobs/sha256/<hex>`, `layers/<hex>/diff`, `tmp`, `empty`. Owns paths, blob files and what
//! "on disk for good" means; knows nothing of images.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, digest, trash};

/// One store's directories.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    serial: AtomicU64,
}

impl Disk {
    pub(crate) fn open(root: &Path) -> Result<Disk, Error> {
        let disk = Disk { root: root.to_owned(), serial: AtomicU64::new(0) };
        for (directory, mode) in [
            (disk.root.clone(), 0o700),
            (disk.blobs(), 0o700),
            (disk.layers(), 0o700),
            (disk.tmp(), 0o700),
            (disk.empty_layer(), 0o755),
        ] {
            fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
            fs::set_permissions(&directory, Permissions::from_mode(mode)).map_err(Error::io("chmod", &directory))?;
        }
        Ok(disk)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// A directory without content, for images without layers.
    pub(crate) fn empty_layer(&self) -> PathBuf {
        self.root.join("empty")
    }

    fn layer(&self, diff_id: &str) -> PathBuf {
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

    fn blob(&self, digest: &str) -> Result<PathBuf, Error> {
        Ok(self.blobs().join(digest::hex_of(digest)?))
    }

    /// A new directory of its own for work in progress; gone at the next start at the latest.
    pub(crate) fn work_directory(&self) -> Result<PathBuf, Error> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let directory = self.tmp().join(format!("{}-{serial}", std::process::id()));
        fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        Ok(directory)
    }

    /// A blob's bytes, checked against its name.
    pub(crate) fn read_blob(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let path = self.blob(digest)?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        if digest::of_bytes(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(Error::Other(format!("{} is damaged: its bytes do not have that digest", path.display())))
        }
    }

    /// Writes a blob's bytes to `draft`, synced.
    pub(crate) fn draft_blob(&self, draft: &Path, bytes: &[u8]) -> Result<(), Error> {
        let written = File::create(draft).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(Error::io("write", draft))
    }

    /// Gives a written blob its name.
    pub(crate) fn adopt_blob(&self, draft: &Path, digest: &str) -> Result<(), Error> {
        fs::rename(draft, self.blob(digest)?).map_err(Error::io("rename", draft))
    }

    pub(crate) fn drop_blob(&self, digest: &str) -> Result<(), Error> {
        let path = self.blob(digest)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(e)),
            _ => Ok(()),
        }
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
        trash::remove(&path).map_err(Error::io("remove", &path))?;
        fs::rename(draft, &path).map_err(Error::io("rename", draft))
    }

    /// Waits until the names given by `adopt_blob` and `adopt_layer` are on disk.
    pub(crate) fn sync_names(&self) -> Result<(), Error> {
        sync_directory(&self.blobs())?;
        sync_directory(&self.layers())
    }

    /// Moves a layer that no record names out of the way; returns where to.
    pub(crate) fn take_layer_away(&self, diff_id: &str) -> Result<Option<PathBuf>, Error> {
        let path = self.layer(diff_id);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let away = self.tmp().join(format!("{}-{serial}.gone", std::process::id()));
        match fs::rename(&path, &away) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("rename", &path)(e)),
            Ok(()) => Ok(Some(away)),
        }
    }

    /// Removes what was moved out of the way.
    pub(crate) fn clear_away(&self, away: &[PathBuf]) -> Result<(), Error> {
        away.iter().try_for_each(|path| trash::remove(path).map_err(Error::io("remove", path)))
    }

    pub(crate) fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_content(diff_id).is_dir()
    }

    /// Removes what no record names: left by a crash.
    pub(crate) fn collect(&self, layers: &HashSet<&str>, blobs: &HashSet<&str>) -> Result<(), Error> {
        trash::empty(&self.tmp()).map_err(Error::io("empty", &self.tmp()))?;
        for (directory, known) in [(self.layers(), layers), (self.blobs(), blobs)] {
            for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
                let path = entry.map_err(Error::io("read", &directory))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if known.contains(format!("sha256:{name}").as_str()) {
                    continue;
                }
                tracing::info!(path = %path.display(), "removed: no image has it");
                let removed = if path.is_dir() { trash::remove(&path) } else { fs::remove_file(&path) };
                removed.map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io("sync", path))
}
