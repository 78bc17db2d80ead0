//! What a layer brought, told from its record alone: no file of the layer is opened.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::confine;
use super::record::{Segment, Segments, ends_early, next_segment, open};
use super::stream::{Entry, Kind, TarStream};

/// Takes an entry's path, the entry, and a file's digest.
type Visitor<'a> = dyn FnMut(Vec<u8>, &Entry, Option<[u8; 32]>) -> io::Result<()> + 'a;

/// Calls `each` for every entry of a layer in the tar's order, with its path inside the layer (hard links lead to such paths)
/// and, of a file, the digest of its bytes.
pub(crate) fn entries(record: &Path, each: &mut Visitor<'_>) -> io::Result<()> {
    let mut stream = TarStream::new(Skim { segments: open(record)?, now: Now::Raw(0) });
    let mut buffer = vec![0; 64 * 1024];
    while let Some(mut entry) = stream.next_entry()? {
        let path = confine(&entry.path)?;
        if entry.kind == Kind::Hardlink {
            entry.link = confine(&entry.link)?;
        }
        let digest = match entry.kind {
            Kind::File if entry.payload_bytes > 0 => match stream.reader().file_ahead()? {
                Some(digest) => Some(digest),
                None => Some(hash(&mut stream, &mut buffer)?),
            },
            Kind::File => Some(Sha256::new().finalize().into()),
            _ => None,
        };
        each(path, &entry, digest)?;
    }
    Ok(())
}

/// The digest of a payload that the record holds itself.
fn hash(payload: &mut impl Read, buffer: &mut [u8]) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    loop {
        match payload.read(buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The layer's tar with zeros in the place of what the record only has the digest of.
struct Skim {
    segments: Segments,
    now: Now,
}

enum Now {
    /// Bytes of the record itself.
    Raw(u64),
    /// Bytes of a file, which are not looked at.
    File { left: u64, digest: [u8; 32] },
}

impl Skim {
    /// The digest of the file whose bytes come next; none if the record holds them.
    fn file_ahead(&mut self) -> io::Result<Option<[u8; 32]>> {
        if matches!(self.now, Now::Raw(0)) {
            self.advance()?;
        }
        Ok(if let Now::File { digest, .. } = self.now { Some(digest) } else { None })
    }

    fn advance(&mut self) -> io::Result<bool> {
        self.now = match next_segment(&mut self.segments)? {
            None => return Ok(false),
            Some(Segment::Raw { bytes }) => Now::Raw(bytes),
            Some(Segment::Content { bytes, digest, .. }) => Now::File { left: bytes, digest },
        };
        Ok(true)
    }
}

impl Read for Skim {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            let bounded = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match &mut self.now {
                Now::Raw(0) | Now::File { left: 0, .. } => {
                    if !self.advance()? {
                        return Ok(0);
                    }
                }
                Now::Raw(left) => {
                    let wanted = bounded(*left);
                    let count = self.segments.read(&mut buffer[..wanted])?;
                    if count == 0 {
                        return Err(ends_early());
                    }
                    *left -= count as u64;
                    return Ok(count);
                }
                Now::File { left, .. } => {
                    let count = bounded(*left);
                    buffer[..count].fill(0);
                    *left -= count as u64;
                    return Ok(count);
                }
            }
        }
        Ok(0)
    }
}
