//! Rotated files of a log are compressed by a process of their own with the lowest priority, so that neither the container
//! nor its supervisor waits. Files may be rotated on while one of them is compressed: whoever renames holds a lock on the
//! directory, for that moment only.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use hoist_sys::namespace::Namespaces;
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::signal;
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::files::forms;

/// How long the container's end waits for what is still being compressed; what is not done by then stays as it is.
const FINISH_MS: i32 = 2000;
const KILL: i32 = 9;
/// ioprio_set(2): idle.
const IDLE: u8 = 3;

pub(super) struct Compressor {
    path: PathBuf,
    max_files: u32,
    /// Of the process at work.
    worker: Option<OwnedFd>,
}

impl Compressor {
    pub(super) fn new(path: &Path, max_files: u32) -> Compressor {
        Compressor { path: path.to_owned(), max_files, worker: None }
    }

    /// Held while files are renamed.
    pub(super) fn lock(&self) -> Option<OwnedFd> {
        lock(&self.path)
    }

    /// Has what was rotated compressed. A worker that is busy finds it by itself.
    pub(super) fn start(&mut self) {
        if self.worker.as_ref().is_some_and(|worker| !has_ended(worker, 0)) {
            return;
        }
        self.worker = match process::clone(Namespaces::default(), None) {
            Ok(Cloned::Parent { pidfd, .. }) => Some(pidfd),
            Ok(Cloned::Child) => work(&self.path, self.max_files),
            // The file stays as it is; the next rotation tries again.
            Err(_) => None,
        };
    }

    pub(super) fn finish(&mut self) {
        // A file rotated in the moment in which a worker ended is left for another.
        while let Some(worker) = self.worker.take() {
            if !has_ended(&worker, FINISH_MS) {
                let _ = signal::send_by_pidfd(worker.as_fd(), KILL);
                let _ = std::fs::remove_file(temporary(&self.path));
                return;
            }
            if oldest_plain(&self.path, self.max_files).is_some() && !temporary(&self.path).exists() {
                self.start();
            }
        }
    }
}

fn has_ended(pidfd: &OwnedFd, timeout_ms: i32) -> bool {
    let mut set = Set::default();
    let index = set.add(pidfd.as_fd(), Interest::Read);
    set.wait(Some(timeout_ms)).is_ok() && set.ready(index).any()
}

/// In the worker.
fn work(path: &Path, max_files: u32) -> ! {
    let _ = hoist_sys::fd::close_all_except(3, &mut []);
    let _ = rustix::process::nice(19);
    let _ = hoist_sys::schedule::set_io_priority(IDLE, 0);
    // When a disk is full the file stays as it is.
    let failed = compress_all(path, max_files).is_err();
    process::exit_now(failed.into())
}

/// Compresses every rotated file that is not, oldest first.
pub(super) fn compress_all(path: &Path, max_files: u32) -> io::Result<()> {
    while let Some(plain) = oldest_plain(path, max_files) {
        let inode = plain.metadata()?.ino();
        let temporary = temporary(path);
        if let Err(error) = compress(plain, &temporary) {
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        let _lock = lock(path);
        let now = (1..max_files).map(|number| forms(path, number));
        let mut now = now.filter(|[plain, _]| std::fs::metadata(plain).is_ok_and(|found| found.ino() == inode));
        match now.next() {
            Some([plain, compressed]) => {
                std::fs::rename(&temporary, compressed)?;
                std::fs::remove_file(plain)?;
            }
            // It was the oldest, and went meanwhile.
            None => std::fs::remove_file(&temporary)?,
        }
    }
    Ok(())
}

fn oldest_plain(path: &Path, max_files: u32) -> Option<File> {
    let _lock = lock(path);
    (1..max_files).rev().find_map(|number| File::open(&forms(path, number)[0]).ok())
}

fn compress(mut plain: File, to: &Path) -> io::Result<()> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o640).open(to)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut plain, &mut encoder)?;
    encoder.finish().map(drop)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz.tmp");
    PathBuf::from(name)
}

fn lock(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path.parent()?, flags, Mode::empty()).ok()?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockExclusive)).ok()?;
    Some(directory)
}
