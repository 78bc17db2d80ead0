//! Rotated files of a log are compressed by a process of their own with the lowest priority, so that neither the container
//! nor its supervisor waits. Files may be rotated on while one of them is compressed: whoever renames holds a lock on the
//! directory, for that moment only. A worker of an earlier run may still be there: the temporary file belongs to whoever
//! holds a lock on it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use hoist_sys::namespace::Namespaces;
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::signal;
use rustix::fs::FlockOperation;
use rustix::process::{WaitId, WaitIdOptions};

use super::files::{lock, with_suffix};
use crate::launch::rotated_names;

/// How long the container's end waits for what is still being compressed; what is not done by then stays as it is.
const FINISH: Duration = Duration::from_secs(2);
/// How long a worker may take to die. One whose disk hangs takes longer, and is left behind.
const DEATH_MS: i32 = 100;
/// ioprio_set(2): idle.
const IDLE: u8 = 3;

pub(super) struct Compressor {
    path: PathBuf,
    max_files: u32,
    worker: Option<Worker>,
}

/// The process at work.
struct Worker {
    pidfd: OwnedFd,
    /// Inode of the file it began with.
    first: Option<u64>,
}

impl Compressor {
    pub(super) fn new(path: &Path, max_files: u32) -> Compressor {
        Compressor { path: path.to_owned(), max_files, worker: None }
    }

    /// Has what was rotated compressed. A worker that is busy finds it by itself.
    pub(super) fn start(&mut self) {
        if self.worker.as_ref().is_some_and(|worker| !has_ended(&worker.pidfd, 0)) {
            return;
        }
        if let Some(ended) = self.worker.take() {
            reap(&ended.pidfd);
        }
        let first = self.oldest_inode();
        self.worker = match process::clone(Namespaces::default(), None) {
            Ok(Cloned::Parent { pidfd, .. }) => Some(Worker { pidfd, first }),
            Ok(Cloned::Child) => work(&self.path, self.max_files),
            // The file stays as it is; the next rotation tries again.
            Err(_) => None,
        };
    }

    pub(super) fn finish(&mut self) {
        let deadline = Instant::now() + FINISH;
        let Some(first) = self.wait(deadline) else { return };
        let oldest = self.oldest_inode();
        // A file rotated in the moment in which a worker ended is left for another, just one. If the first file is still
        // there the worker has failed, and so would another.
        if oldest.is_some() && oldest != first {
            self.start();
            self.wait(deadline);
        }
    }

    /// Waits for the worker; one that takes too long is stopped. What it began with, if it came to its own end.
    fn wait(&mut self, deadline: Instant) -> Option<Option<u64>> {
        let worker = self.worker.take()?;
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = has_ended(&worker.pidfd, i32::try_from(left.as_millis()).unwrap_or(i32::MAX));
        if !ended {
            let _ = signal::send_by_pidfd(worker.pidfd.as_fd(), signal::KILL);
            has_ended(&worker.pidfd, DEATH_MS);
            let _ = std::fs::remove_file(temporary(&self.path));
        }
        reap(&worker.pidfd);
        ended.then_some(worker.first)
    }

    fn oldest_inode(&self) -> Option<u64> {
        Some(oldest_plain(&self.path, self.max_files)?.metadata().ok()?.ino())
    }
}

/// By pidfd, because the supervisor's loop may have reaped it before.
pub(super) fn reap(pidfd: &OwnedFd) {
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
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
        let temporary = Temporary::take(path)?;
        let done = compress(plain, &temporary.file);
        let _lock = lock(path);
        match done {
            Ok(()) => temporary.put(path, max_files, inode)?,
            Err(error) => {
                temporary.remove();
                return Err(error);
            }
        }
    }
    Ok(())
}

fn oldest_plain(path: &Path, max_files: u32) -> Option<File> {
    let _lock = lock(path);
    (1..max_files).rev().find_map(|number| File::open(&rotated_names(path, number)[0]).ok())
}

/// On the disk when it returns: the plain file goes next.
fn compress(mut plain: File, to: &File) -> io::Result<()> {
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut plain, &mut encoder)?;
    encoder.finish()?.sync_all()
}

/// The file that a worker writes to. It is locked as long as it is open.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// Makes the file, or takes over what a worker that was killed left behind. Fails if another is at work.
    fn take(log: &Path) -> io::Result<Temporary> {
        let path = temporary(log);
        // It is renamed and removed under this lock too, so what is opened here is not gone before it is locked.
        let _lock = lock(log);
        let file = File::options().write(true).create(true).truncate(false).mode(0o640).open(&path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(0)?;
        Ok(Temporary { path, file })
    }

    /// Takes the place of the plain file with this inode, wherever that is by now.
    fn put(self, log: &Path, max_files: u32, inode: u64) -> io::Result<()> {
        let is = |path: &Path, inode| std::fs::metadata(path).is_ok_and(|found| found.ino() == inode);
        if !is(&self.path, self.file.metadata()?.ino()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut now = (1..max_files).map(|number| rotated_names(log, number)).filter(|[plain, _]| is(plain, inode));
        match now.next() {
            Some([plain, compressed]) => {
                std::fs::rename(&self.path, compressed)?;
                std::fs::remove_file(plain)
            }
            // It was the oldest, and went meanwhile.
            None => std::fs::remove_file(&self.path),
        }
    }

    fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn temporary(path: &Path) -> PathBuf {
    with_suffix(path, ".gz.tmp")
}
