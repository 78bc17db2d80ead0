//! The files of a log: what is appended to the newest, their rotation, and who compresses what was rotated away.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::compress::Compressor;
use crate::failure::{OrFail, Result};
use crate::launch::{LogFile, rotated_names};

pub(super) struct Files {
    path: PathBuf,
    file: File,
    /// What counts for the next rotation. The file is longer when a rotation has failed.
    counted_bytes: u64,
    max_size_bytes: u64,
    max_files: u32,
    compressor: Option<Compressor>,
}

impl AsRawFd for Files {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Files {
    pub(super) fn open(log: &LogFile) -> Result<Files> {
        let path = log.path.clone();
        let file = open_file(&path).or_fail(|| format!("open log {}", path.display()))?;
        let counted_bytes = file.metadata().or_fail(|| format!("stat log {}", path.display()))?.len();
        let compressor = (log.compress && log.max_files > 1).then(|| Compressor::new(&path, log.max_files));
        let (max_size_bytes, max_files) = (log.max_size_bytes, log.max_files);
        Ok(Files { path, file, counted_bytes, max_size_bytes, max_files, compressor })
    }

    /// Appends whole entries, each of them a line. Docker rotates before the write that finds the file at its limit.
    pub(super) fn write_entries(&mut self, entries: &[u8]) {
        if !self.is_full(entries.len()) {
            return self.append(entries);
        }
        let mut written = 0;
        let mut end = 0;
        for entry in entries.split_inclusive(|byte| *byte == b'\n') {
            if self.is_full(end - written) {
                self.append(&entries[written..end]);
                written = end;
                self.rotate();
            }
            end += entry.len();
        }
        self.append(&entries[written..]);
    }

    fn is_full(&self, pending_bytes: usize) -> bool {
        self.max_size_bytes > 0 && self.counted_bytes.saturating_add(pending_bytes as u64) >= self.max_size_bytes
    }

    /// A full disk costs these entries, whole ones: a half-written entry would spoil the next.
    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let length = self.file.metadata().map(|metadata| metadata.len());
        match (self.file.write_all(bytes), length) {
            (Ok(()), _) => self.counted_bytes += bytes.len() as u64,
            (Err(_), Ok(length)) => _ = self.file.set_len(length),
            (Err(_), Err(_)) => {}
        }
    }

    /// `path` becomes `path.1`, and so on; the oldest goes. Without room for old ones the file starts anew. If there cannot
    /// be a new file everything stays as it is, until as much again has come.
    fn rotate(&mut self) {
        self.counted_bytes = 0;
        if let Ok(file) = self.replace() {
            self.file = file;
            if let Some(compressor) = &mut self.compressor {
                compressor.start();
            }
        }
    }

    fn replace(&self) -> std::io::Result<File> {
        let _lock = lock(&self.path);
        let new = with_suffix(&self.path, ".new");
        let file = open_file(&new)?;
        file.set_len(0)?;
        if self.max_files > 1 {
            for oldest in rotated_names(&self.path, self.max_files - 1) {
                let _ = std::fs::remove_file(oldest);
            }
            for number in (2..self.max_files).rev() {
                for (from, to) in rotated_names(&self.path, number - 1).iter().zip(rotated_names(&self.path, number)) {
                    let _ = std::fs::rename(from, to);
                }
            }
            match std::fs::rename(&self.path, &rotated_names(&self.path, 1)[0]) {
                // Somebody has removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        std::fs::rename(&new, &self.path)?;
        Ok(file)
    }

    /// Nothing more is written.
    pub(super) fn finish(mut self) {
        if let Some(compressor) = &mut self.compressor {
            compressor.finish();
        }
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Held while files are renamed: whoever opens several of a log's files under a shared one finds them in order.
pub(super) fn lock(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path.parent()?, flags, Mode::empty()).ok()?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockExclusive)).ok()?;
    Some(directory)
}
