//! Reading a tar stream entry by entry: ustar, GNU long names and sparse files, PAX records. Pure parsing with bounds:
//! makes no file, keeps no more than one entry in memory, and never trusts a length.

use std::io::{self, Read};
use std::path::Path;

use super::header::{self, BLOCK, Header};
use super::pax::{self, Records};
use super::record::Recorder;
use super::sparse::{self, Segment};

/// Long names and PAX records of one entry; Go's archive/tar has the same bound.
const SPECIAL_MAX_BYTES: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Char,
    Block,
    Fifo,
}

/// One entry's metadata; its payload is read from the stream itself.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of payload in the stream (of a sparse file: its data without the holes).
    pub(crate) payload_bytes: u64,
    /// Seconds and nanoseconds since the epoch.
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

/// Where the data of a sparse file goes.
#[derive(Clone, Debug)]
pub(crate) struct Sparse {
    pub(crate) segments: Vec<Segment>,
    pub(crate) real_bytes: u64,
}

/// A tar stream; [`Read`] yields the payload of the entry last returned.
pub(crate) struct TarStream<R> {
    reader: R,
    payload_left: u64,
    padding: u64,
    ended: bool,
    recorder: Option<Recorder>,
    /// The payload being read is recorded by its digest, not by its bytes.
    by_digest: bool,
}

pub(super) fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(reader: R) -> Self {
        TarStream { reader, payload_left: 0, padding: 0, ended: false, recorder: None, by_digest: false }
    }

    /// Records what is read from now on.
    pub(super) fn record(mut self, recorder: Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// The payload that follows is a file's content: the caller says what it was by [`TarStream::content_was`].
    pub(super) fn content_follows(&mut self) {
        self.by_digest = self.recorder.as_ref().is_some_and(|recorder| !recorder.is_whole());
    }

    pub(super) fn content_was(&mut self, path: &[u8], length: u64, digest: [u8; 32]) -> io::Result<()> {
        match &mut self.recorder {
            Some(recorder) if std::mem::take(&mut self.by_digest) => recorder.content(path, length, digest),
            _ => Ok(()),
        }
    }

    /// Records the bytes of files too, of those that passed already and of those to come.
    pub(super) fn record_whole(&mut self, content: &Path) -> io::Result<()> {
        self.recorder.as_mut().map_or(Ok(()), |recorder| recorder.become_whole(content))
    }

    /// Where the archive comes from.
    pub(super) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Reads to the end and gives the record back.
    pub(super) fn finish(mut self) -> io::Result<Option<Recorder>> {
        self.drain_rest()?;
        Ok(self.recorder)
    }

    /// The next entry, whatever is left of the last one being skipped; `None` at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let (mut long_path, mut long_link) = (None, None);
        let mut records = Records::default();
        loop {
            self.skip_rest()?;
            let Some(block) = self.next_header_block()? else { return Ok(None) };
            let head = Header::parse(&block)?;
            match head.kind_byte() {
                b'L' => long_path = Some(self.read_special(&head)?),
                b'K' => long_link = Some(self.read_special(&head)?),
                b'x' | b'X' => records = pax::parse(&self.read_special(&head)?)?,
                // Records for the whole archive: Docker ignores them too. git archive writes one with its commit.
                b'g' => drop(self.read_special(&head)?),
                _ => return self.finish_entry(&head, &block, (long_path, long_link), records).map(Some),
            }
        }
    }

    /// Reads what follows the end marker, so that whoever writes the stream is not cut off.
    pub(crate) fn drain(mut self) -> io::Result<()> {
        self.drain_rest()
    }

    fn drain_rest(&mut self) -> io::Result<()> {
        self.skip_rest()?;
        self.discard(u64::MAX).map(drop)
    }

    /// Every byte of the archive passes here.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let (false, Some(recorder)) = (self.by_digest, &mut self.recorder) {
            recorder.raw(&buffer[..count])?;
        }
        Ok(count)
    }

    /// Skips up to `wanted` bytes; how many there were.
    fn discard(&mut self, wanted: u64) -> io::Result<u64> {
        let mut buffer = [0; 16 * 1024];
        let mut left = wanted;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match self.fill(&mut buffer[..part]) {
                Ok(0) => break,
                Ok(count) => left -= count as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(wanted - left)
    }

    fn finish_entry(
        &mut self,
        head: &Header<'_>,
        block: &[u8; BLOCK],
        long: (Option<Vec<u8>>, Option<Vec<u8>>),
        mut records: Records,
    ) -> io::Result<Entry> {
        let path = records.path.take().or(long.0.map(until_nul)).unwrap_or_else(|| head.path());
        let link = records.link.take().or(long.1.map(until_nul)).unwrap_or_else(|| head.link());
        let kind = kind_of(head.kind_byte(), &path)?;
        let has_payload = matches!(kind, Kind::File);
        let size = match records.size {
            Some(size) => size,
            None => head.size()?,
        };
        // Links and devices have no payload whatever their size field says (POSIX pax, "ustar Interchange Format").
        self.payload_left = if has_payload { size } else { 0 };
        self.padding = padding_of(self.payload_left);
        let sparse = if has_payload { self.sparse_map(head, block, &mut records)? } else { None };
        let path = records.sparse.name.take().unwrap_or(path);
        Ok(Entry {
            kind,
            link,
            mode: head.mode()? & 0o7777,
            uid: owner(records.uid.map_or_else(|| head.uid(), Ok)?, "uid", &path)?,
            gid: owner(records.gid.map_or_else(|| head.gid(), Ok)?, "gid", &path)?,
            payload_bytes: self.payload_left,
            mtime: records.mtime.map_or_else(|| head.mtime().map(|seconds| (seconds, 0)), Ok)?,
            device: if matches!(kind, Kind::Char | Kind::Block) { head.device()? } else { (0, 0) },
            xattrs: records.xattrs,
            sparse,
            path,
        })
    }

    /// The map of a sparse file in any of GNU tar's four encodings.
    fn sparse_map(
        &mut self,
        head: &Header<'_>,
        block: &[u8; BLOCK],
        records: &mut Records,
    ) -> io::Result<Option<Sparse>> {
        let (segments, real_bytes) = if head.kind_byte() == b'S' {
            let real = header::number(&block[483..495])?;
            let mut segments = sparse::old_gnu(&block[386..482])?;
            let mut extended = block[482] != 0;
            while extended {
                let next = self.read_block()?.ok_or_else(truncated)?;
                segments.extend(sparse::old_gnu(&next[..504])?);
                sparse::check_count(segments.len())?;
                extended = next[504] != 0;
            }
            (segments, u64::try_from(real).map_err(|_| invalid("invalid tar header: negative sparse size"))?)
        } else if records.sparse.is_version_1() {
            let segments = sparse::leading_map(self)?;
            let real = records.sparse.real_bytes.ok_or_else(|| invalid("sparse tar entry without its real size"))?;
            (segments, real)
        } else if let (Some(segments), Some(real)) = (records.sparse.segments.take(), records.sparse.real_bytes) {
            (segments, real)
        } else {
            return Ok(None);
        };
        sparse::check(&segments, real_bytes, self.payload_left)?;
        Ok(Some(Sparse { segments, real_bytes }))
    }

    fn read_special(&mut self, head: &Header<'_>) -> io::Result<Vec<u8>> {
        let size = head.size()?;
        if size > SPECIAL_MAX_BYTES {
            return Err(invalid(format!("tar extension header of {size} bytes is too large")));
        }
        (self.payload_left, self.padding) = (size, padding_of(size));
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn next_header_block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.read_block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.iter().any(|&b| b != 0) {
            return Ok(Some(block));
        }
        self.ended = true;
        match self.read_block()? {
            Some(second) if second.iter().any(|&b| b != 0) => Err(invalid("invalid tar header: data after zeros")),
            _ => Ok(None),
        }
    }

    /// A whole block; `None` if the stream ends right here.
    fn read_block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.fill(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Some(block))
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.payload_left);
        let padding = std::mem::take(&mut self.padding);
        let skipped = self.discard(rest)?;
        // Some writers leave out the padding of the last entry.
        self.discard(padding)?;
        if skipped < rest { Err(truncated()) } else { Ok(()) }
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.payload_left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let want = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.fill(&mut buffer[..want])?;
        if count == 0 {
            return Err(truncated());
        }
        self.payload_left -= count as u64;
        Ok(count)
    }
}

pub(super) fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")
}

fn padding_of(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&b| b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn kind_of(byte: u8, path: &[u8]) -> io::Result<Kind> {
    Ok(match byte {
        // Before ustar a directory was a file whose name ends with a slash.
        b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::Hardlink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => {
            let path = String::from_utf8_lossy(path);
            return Err(invalid(format!("unhandled tar header type {other} of {path:?}")));
        }
    })
}

fn owner(id: i64, what: &str, path: &[u8]) -> io::Result<u32> {
    // The all-ones id means "leave alone" to chown(2).
    u32::try_from(id)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| invalid(format!("{what} {id} of {:?} is out of range", String::from_utf8_lossy(path))))
}
