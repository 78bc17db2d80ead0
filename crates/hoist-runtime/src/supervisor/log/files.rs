//! The files of a log: what is appended to the newest, their rotation, and who compresses what was rotated away.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::compress::Compressor;
use crate::failure::{OrFail, Result};
use crate::launch::LogFile;

pub(super) struct Files {
    path: PathBuf,
    file: File,
    size_bytes: u64,
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
        let size_bytes = file.metadata().or_fail(|| format!("stat log {}", path.display()))?.len();
        let compressor = (log.compress && log.max_files > 1).then(|| Compressor::new(&path, log.max_files));
        let (max_size_bytes, max_files) = (log.max_size_bytes, log.max_files);
        Ok(Files { path, file, size_bytes, max_size_bytes, max_files, compressor })
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
        self.max_size_bytes > 0 && self.size_bytes.saturating_add(pending_bytes as u64) >= self.max_size_bytes
    }

    /// A full disk costs these entries, whole ones: a half-written entry would spoil the next.
    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.size_bytes += bytes.len() as u64,
            Err(_) => {
                let _ = self.file.set_len(self.size_bytes);
            }
        }
    }

    /// `path` becomes `path.1`, and so on; the oldest goes. Without room for old ones the file starts anew.
    fn rotate(&mut self) {
        if self.max_files > 1 {
            let lock = self.compressor.as_ref().and_then(Compressor::lock);
            for oldest in forms(&self.path, self.max_files - 1) {
                let _ = std::fs::remove_file(oldest);
            }
            for number in (2..self.max_files).rev() {
                for (from, to) in forms(&self.path, number - 1).into_iter().zip(forms(&self.path, number)) {
                    let _ = std::fs::rename(from, to);
                }
            }
            let _ = std::fs::rename(&self.path, numbered(&self.path, 1));
            drop(lock);
        } else {
            let _ = std::fs::remove_file(&self.path);
        }
        match open_file(&self.path) {
            Ok(file) => {
                self.size_bytes = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = file;
            }
            // Goes on in the old file, and tries again when as much again has come.
            Err(_) => self.size_bytes = 0,
        }
        if let Some(compressor) = &mut self.compressor {
            compressor.start();
        }
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

/// A rotated file as it is and as it is compressed.
pub(super) fn forms(path: &Path, number: u32) -> [PathBuf; 2] {
    let plain = numbered(path, number);
    let mut compressed = plain.clone().into_os_string();
    compressed.push(".gz");
    [plain, compressed.into()]
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
