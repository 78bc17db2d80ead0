//! What an engine leaves of pulls that it did not bring to their end, for the next one: the bytes of layers as they came, and
//! the layers that were whole but belonged to no image yet. In `partial/<boot>`: after a power cut nothing of it is to be
//! relied on, so only the same boot's is taken up, and not for long.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::downloads::KEEP;
use crate::manifest::Descriptor;
use crate::records::LayerBytes;
use crate::{Digest, Shared, digest};

/// proc(5): another one after each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const LAYER_PREFIX: &str = "layer-";

/// A layer that is in its place and in no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) bytes: LayerBytes,
    /// The digest of the bytes of which it was unpacked, which was checked.
    pub(crate) came_as: Option<String>,
}

/// The directory of this boot.
#[derive(Debug)]
pub(crate) struct Partials {
    directory: PathBuf,
    /// Bytes of layers that an earlier engine left and no pull has taken up.
    left: Mutex<BTreeSet<PathBuf>>,
}

impl Partials {
    /// Forgets what is of other boots, or old.
    pub(crate) fn open(root: &Path) -> io::Result<Partials> {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let boot = if boot.trim().is_empty() { "unknown" } else { boot.trim() };
        let directory = root.join(boot);
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(root)?.flatten() {
            if entry.path() != directory {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let mut left = BTreeSet::new();
        for entry in fs::read_dir(&directory)?.flatten() {
            let age =
                entry.metadata().and_then(|found| found.modified()).map(|at| SystemTime::now().duration_since(at));
            if boot == "unknown" || !age.is_ok_and(|age| age.is_ok_and(|age| age < KEEP)) {
                remove(&entry.path());
            } else if !entry.file_name().to_string_lossy().starts_with(LAYER_PREFIX) {
                left.insert(entry.path());
            }
        }
        Ok(Partials { directory, left: Mutex::new(left) })
    }

    /// A reader of a layer's bytes: those that are here, then those that come, which are kept. And how many are here.
    pub(crate) fn take_up<R: Read>(&self, descriptor: &Descriptor, diff_id: &str, coming: R) -> (u64, Spooled<R>) {
        let path = self.path(descriptor, diff_id);
        lock(&self.left).remove(&path);
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let length = opened.as_ref().map_or(Ok(0), |file| file.metadata().map(|found| found.len())).unwrap_or(0);
        // Of a whole one the last byte comes again: registries do not answer to ranges of nothing.
        let here = length.min(descriptor.size.saturating_sub(1));
        (here, Spooled { coming, here, at: 0, path, file: opened.ok() })
    }

    /// The layer is unpacked, or never will be.
    pub(crate) fn forget(&self, descriptor: &Descriptor, diff_id: &str) {
        remove(&self.path(descriptor, diff_id));
    }

    /// Whether an earlier engine left bytes of layers that no pull has taken up yet.
    fn has_left(&self) -> bool {
        !lock(&self.left).is_empty()
    }

    /// Removes what an earlier engine left of layers and no pull has taken up. Blocking.
    fn forget_left(&self) {
        // A pull that takes one up in this moment has it open, and reads it to its end.
        let left = std::mem::take(&mut *lock(&self.left));
        left.iter().for_each(|path| remove(path));
    }

    /// By all that a manifest and its config promise: another promise about the same bytes must not spoil these.
    fn path(&self, descriptor: &Descriptor, diff_id: &str) -> PathBuf {
        let hex = |digest: &str| digest.rsplit(':').next().unwrap_or_default().to_owned();
        self.directory.join(format!("{}-{}-{}", hex(&descriptor.digest), descriptor.size, hex(diff_id)))
    }

    /// Remembers a layer that is in its place and in no table.
    pub(crate) fn put_layer(&self, diff_id: &str, layer: &Settled) {
        let tar = layer.bytes.tar.map(|tar| tar.to_string()).unwrap_or_default();
        let text = format!("{} {tar} {}", layer.bytes.content, layer.came_as.as_deref().unwrap_or_default());
        // Best effort: it would be fetched again.
        if fs::write(self.layer_path(diff_id), text).is_err() {
            self.forget_layer(diff_id);
        }
    }

    pub(crate) fn forget_layer(&self, diff_id: &str) {
        remove(&self.layer_path(diff_id));
    }

    fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.directory.join(format!("{LAYER_PREFIX}{}", diff_id.trim_start_matches("sha256:")))
    }

    /// The layers that were remembered.
    pub(crate) fn layers(&self) -> HashMap<Digest, Settled> {
        let mut found = HashMap::new();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(hex) = name.strip_prefix(LAYER_PREFIX) else { continue };
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let mut words = text.split(' ');
            if let Some(content) = words.next().and_then(|word| word.parse().ok()) {
                let tar = words.next().and_then(|word| word.parse().ok());
                let came_as = words.next().filter(|word| digest::hex_of(word).is_ok()).map(str::to_owned);
                found.insert(format!("sha256:{hex}"), Settled { bytes: LayerBytes { content, tar }, came_as });
            }
        }
        found
    }
}

impl Shared {
    /// Holds what an earlier engine brought in, for the time in which its pulls may be taken up again.
    pub(crate) fn restore(self: &Arc<Shared>, layers: HashMap<Digest, Settled>) {
        let diff_ids: Vec<Digest> = layers.keys().cloned().collect();
        {
            let mut index = self.index_mut();
            for (diff_id, layer) in layers {
                index.settle_layer(&diff_id, layer.bytes, layer.came_as);
            }
            index.hold(&diff_ids);
        }
        if diff_ids.is_empty() && !self.partials.has_left() {
            return;
        }
        *lock(&self.restored) = diff_ids;
        let shared = Arc::downgrade(self);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(KEEP).await;
                let Some(shared) = shared.upgrade() else { return };
                if let Err(e) = tokio::task::spawn_blocking(move || shared.give_restored_up()).await {
                    tracing::warn!(error = %e, "giving up an interrupted pull failed");
                }
            });
        }
    }

    /// Ends the hold on some of the restored layers; returns those that nobody else needs.
    pub(crate) fn let_restored_go(&self, which: impl Fn(&str) -> bool) -> Vec<Digest> {
        let mut restored = lock(&self.restored);
        let (gone, kept) = std::mem::take(&mut *restored).into_iter().partition(|diff_id| which(diff_id));
        *restored = kept;
        self.index_mut().let_go(&gone)
    }

    /// Gives up what an earlier engine left and no pull has taken up. Blocking.
    pub(crate) fn give_restored_up(&self) {
        self.partials.forget_left();
        let unused = self.let_restored_go(|_| true);
        if let Err(e) = self.sweep(unused) {
            tracing::warn!(error = %e, "layers of an interrupted pull stay until the next start");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed by whole calls that do not panic half-way: a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %e, "a part of a pull stays until the next start");
        }
        _ => {}
    }
}

/// See [`Partials::take_up`].
#[derive(Debug)]
pub(crate) struct Spooled<R> {
    coming: R,
    here: u64,
    at: u64,
    path: PathBuf,
    file: Option<File>,
}

impl<R: Read> Read for Spooled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.here {
            let Some(file) = &self.file else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            let wanted = usize::try_from(self.here - self.at).unwrap_or(usize::MAX).min(buffer.len());
            let count = file.read_at(&mut buffer[..wanted], self.at)?;
            if count == 0 && wanted > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += count as u64;
            return Ok(count);
        }
        let count = self.coming.read(buffer)?;
        if let Some(file) = &self.file
            && file.write_all_at(&buffer[..count], self.at).is_err()
        {
            // The disk is full, most likely, and the layer itself needs room more.
            self.file = None;
            remove(&self.path);
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF_ID: &str = "sha256:dd";

    fn descriptor(size: u64) -> Descriptor {
        let digest = format!("sha256:{}", "a".repeat(64));
        Descriptor { digest, size, ..Descriptor::default() }
    }

    #[test]
    fn what_came_is_read_again_and_then_what_comes() {
        let home = tempfile::tempdir().unwrap();
        let partials = Partials::open(&home.path().join("partial")).unwrap();
        let mut text = String::new();
        let (here, mut first) = partials.take_up(&descriptor(9), DIFF_ID, &b"one two"[..]);
        assert_eq!(here, 0);
        first.read_to_string(&mut text).unwrap();
        drop(partials);
        let partials = Partials::open(&home.path().join("partial")).unwrap();
        let (here, mut second) = partials.take_up(&descriptor(9), DIFF_ID, &b" 3"[..]);
        text.clear();
        second.read_to_string(&mut text).unwrap();
        assert_eq!((here, text.as_str()), (7, "one two 3"));
        // A whole one lacks its last byte.
        assert_eq!(partials.take_up(&descriptor(9), DIFF_ID, io::empty()).0, 8);
        // Another size or another content is another promise.
        assert_eq!(partials.take_up(&descriptor(8), DIFF_ID, io::empty()).0, 0);
        assert_eq!(partials.take_up(&descriptor(9), "sha256:ee", io::empty()).0, 0);
        partials.forget(&descriptor(9), DIFF_ID);
        assert_eq!(partials.take_up(&descriptor(9), DIFF_ID, io::empty()).0, 0);
    }

    #[test]
    fn another_boots_parts_and_old_ones_are_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("partial");
        let partials = Partials::open(&root).unwrap();
        let came_as = Some(descriptor(1).digest);
        let whole = Settled { bytes: LayerBytes { content: 5, tar: Some(1024) }, came_as: came_as.clone() };
        let bare = Settled { bytes: LayerBytes { content: 7, tar: None }, came_as };
        for layer in ["sha256:aa", "sha256:bb"] {
            partials.put_layer(layer, &whole);
        }
        partials.put_layer("sha256:cc", &bare);
        // As engines wrote them that did not keep the digest.
        fs::write(partials.layer_path("sha256:dd"), "5 1024").unwrap();
        fs::create_dir(root.join("another-boot")).unwrap();
        fs::write(root.join("another-boot/x"), "x").unwrap();
        let old = File::options().write(true).open(partials.layer_path("sha256:bb")).unwrap();
        old.set_modified(SystemTime::now() - KEEP * 2).unwrap();
        let partials = Partials::open(&root).unwrap();
        let old = Settled { came_as: None, ..whole.clone() };
        let expected = [("sha256:aa", whole), ("sha256:cc", bare), ("sha256:dd", old)];
        assert_eq!(partials.layers(), expected.map(|(id, layer)| (id.to_owned(), layer)).into());
        assert!(!root.join("another-boot").exists());
        partials.forget_layer("sha256:aa");
        assert_eq!(partials.layers().len(), 2);
    }

    #[test]
    fn bytes_that_no_pull_takes_up_can_be_given_up() {
        let home = tempfile::tempdir().unwrap();
        let partials = Partials::open(&home.path().join("partial")).unwrap();
        for diff_id in ["sha256:aa", "sha256:bb"] {
            partials.take_up(&descriptor(9), diff_id, &b"one two"[..]).1.read_to_end(&mut Vec::new()).unwrap();
        }
        partials.put_layer("sha256:cc", &Settled { bytes: LayerBytes { content: 5, tar: None }, came_as: None });
        partials.forget_left();
        assert!(!partials.has_left(), "what is on its way is not left");
        let partials = Partials::open(&home.path().join("partial")).unwrap();
        assert!(partials.has_left());
        let (here, _reader) = partials.take_up(&descriptor(9), "sha256:aa", io::empty());
        partials.forget_left();
        let is_there = |diff_id: &str| partials.path(&descriptor(9), diff_id).exists();
        assert_eq!((here, is_there("sha256:aa"), is_there("sha256:bb"), partials.has_left()), (7, true, false, false));
        assert_eq!(partials.layers().len(), 1);
    }
}
