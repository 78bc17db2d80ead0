//! A layer's tar, read from its record and its files, which are checked on the way.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::super::place::Root;
use super::super::record::{Segment, Segments, ends_early, next_segment, open};
use super::super::split;
use super::Findings;

/// The layer's tar, from its record and files. A file that is not as it was is told, and counts with as many bytes as it
/// had.
pub(super) struct Replay {
    segments: Segments,
    root: Root,
    findings: Rc<RefCell<Findings>>,
    now: Now,
    /// Of all bytes so far.
    pub(super) whole: Rc<RefCell<Sha256>>,
}

enum Now {
    Between,
    /// Bytes of the record itself.
    Raw(u64),
    File {
        file: Option<File>,
        left: u64,
        hasher: Sha256,
        digest: [u8; 32],
        path: Vec<u8>,
    },
}

impl Replay {
    pub(super) fn open(record: &Path, content: &Path, findings: Rc<RefCell<Findings>>) -> io::Result<Replay> {
        let segments = open(record)?;
        let root = Root::open(content, content)?;
        Ok(Replay { segments, root, findings, now: Now::Between, whole: Rc::default() })
    }

    /// Whether the bytes to come are a file's, which is being checked.
    pub(super) fn is_in_file(&mut self) -> bool {
        // The header before it was the end of a segment.
        if matches!(self.now, Now::Between | Now::Raw(0)) {
            // What fails now fails again when the bytes are read.
            let _ = self.advance();
        }
        matches!(self.now, Now::File { .. })
    }

    /// Goes to the next segment; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        self.now = match next_segment(&mut self.segments)? {
            None => return Ok(false),
            Some(Segment::Raw { bytes }) => Now::Raw(bytes),
            Some(Segment::Content { bytes, digest, path }) => {
                let opened = split(&path).map(|(parent, name)| self.root.file(parent, name));
                let file = match opened {
                    Some(Ok(file)) => Some(file),
                    // That it is missing, or what it is now, its entry's own check tells.
                    Some(Err(_)) | None => None,
                };
                Now::File { file, left: bytes, hasher: Sha256::new(), digest, path }
            }
        };
        Ok(true)
    }

    fn read_file(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Now::File { file, left, hasher, digest, path } = &mut self.now else { return Ok(0) };
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let count = match file {
            Some(file) => file.read(buffer)?,
            None => 0,
        };
        hasher.update(&buffer[..count]);
        // A file that is too short goes on with zeros.
        let count = if count == 0 {
            buffer.fill(0);
            wanted
        } else {
            count
        };
        *left -= count as u64;
        if *left == 0 {
            let is_other = file.is_some() && <[u8; 32]>::from(std::mem::take(hasher).finalize()) != *digest;
            if is_other {
                self.findings.borrow_mut().add(path, "has other bytes");
            }
            self.now = Now::Between;
        }
        Ok(count)
    }
}

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = loop {
            match &mut self.now {
                Now::Raw(0) | Now::Between => {
                    if !self.advance()? {
                        return Ok(0);
                    }
                }
                Now::Raw(left) => {
                    let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    let count = self.segments.read(&mut buffer[..wanted])?;
                    if count == 0 {
                        return Err(ends_early());
                    }
                    *left -= count as u64;
                    break count;
                }
                Now::File { .. } => break self.read_file(buffer)?,
            }
        };
        self.whole.borrow_mut().update(&buffer[..count]);
        Ok(count)
    }
}
