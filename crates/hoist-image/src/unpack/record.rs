//! A layer's record: everything its tar held besides the bytes of its files, and the digest of each file. With it the tar
//! can be written again byte for byte, for `save` and `push`, and a damaged file is found by name. A layer that replaces
//! files of its own is whole in its record, since what they were is nowhere else.
//!
//! Form: zstd over segments; `0 len:u32 bytes` is copied, `1 len:u64 sha256:32 pathlen:u16 path` is a file's content.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::place::Root;
use super::stream::invalid;

const RAW: u8 = 0;
const CONTENT: u8 = 1;

/// Writes a record while a layer is unpacked.
pub(super) struct Recorder {
    out: zstd::Encoder<'static, BufWriter<File>>,
    path: PathBuf,
    whole: bool,
}

impl Recorder {
    pub(super) fn create(path: &Path) -> io::Result<Recorder> {
        let out = zstd::Encoder::new(BufWriter::new(File::create_new(path)?), 1)?;
        Ok(Recorder { out, path: path.to_owned(), whole: false })
    }

    /// Whether the bytes of files are to be recorded too.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes the bytes of the files so far from `content`, and those of the next ones as they come.
    pub(super) fn become_whole(&mut self, content: &Path) -> io::Result<()> {
        if self.whole {
            return Ok(());
        }
        let path = self.path.clone();
        let aside = path.with_extension("whole");
        let before = std::mem::replace(self, Recorder { whole: true, ..Recorder::create(&aside)? });
        before.finish()?;
        replay(&path, content, &mut RawWriter(self))?;
        std::fs::rename(&aside, &path)?;
        self.path = path;
        Ok(())
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(u32::MAX as usize).filter(|part| !part.is_empty()) {
            self.out.write_all(&[RAW])?;
            self.out.write_all(&(part.len() as u32).to_le_bytes())?;
            self.out.write_all(part)?;
        }
        Ok(())
    }

    pub(super) fn content(&mut self, path: &[u8], length: u64, digest: [u8; 32]) -> io::Result<()> {
        let path_length = u16::try_from(path.len()).map_err(|_| invalid("path too long for a record"))?;
        self.out.write_all(&[CONTENT])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&digest)?;
        self.out.write_all(&path_length.to_le_bytes())?;
        self.out.write_all(path)
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.out.finish()?.flush()
    }
}

/// Records what is written to it as it is.
struct RawWriter<'a>(&'a mut Recorder);

impl Write for RawWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.raw(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of the tar that `record` describes.
pub(crate) fn replayed_bytes(record: &Path) -> io::Result<u64> {
    let mut segments = open(record)?;
    let mut total = 0_u64;
    while let Some(segment) = next_segment(&mut segments)? {
        let bytes = match segment {
            Segment::Raw { bytes } => {
                copy_raw(&mut segments, bytes, &mut io::sink())?;
                bytes
            }
            Segment::Content { bytes, .. } => bytes,
        };
        total = total.saturating_add(bytes);
    }
    Ok(total)
}

/// Writes the tar that `record` and the unpacked `content` came from. Fails at the first file that is not as it was.
pub(crate) fn replay(record: &Path, content: &Path, out: &mut dyn Write) -> io::Result<()> {
    let root = Root::open(content, content)?;
    let mut segments = open(record)?;
    while let Some(segment) = next_segment(&mut segments)? {
        match segment {
            Segment::Raw { bytes } => copy_raw(&mut segments, bytes, out)?,
            Segment::Content { bytes, digest, path } => replay_content(bytes, digest, &path, &root, out)?,
        }
    }
    Ok(())
}

/// A record's segments, unpacked.
pub(super) type Segments = zstd::Decoder<'static, BufReader<File>>;

/// What follows in a record.
pub(super) enum Segment {
    /// So many bytes of the record itself.
    Raw { bytes: u64 },
    /// The bytes of a file.
    Content { bytes: u64, digest: [u8; 32], path: Vec<u8> },
}

pub(super) fn open(record: &Path) -> io::Result<Segments> {
    zstd::Decoder::with_buffer(BufReader::new(File::open(record)?))
}

/// The next segment, up to where its raw bytes begin; `None` at the end.
pub(super) fn next_segment(segments: &mut Segments) -> io::Result<Option<Segment>> {
    let mut tag = [0];
    loop {
        match segments.read(&mut tag) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    match tag[0] {
        RAW => Ok(Some(Segment::Raw { bytes: u32::from_le_bytes(array(segments)?).into() })),
        CONTENT => {
            let bytes = u64::from_le_bytes(array(segments)?);
            let digest = array(segments)?;
            let mut path = vec![0; u16::from_le_bytes(array(segments)?).into()];
            segments.read_exact(&mut path)?;
            Ok(Some(Segment::Content { bytes, digest, path }))
        }
        other => Err(invalid(format!("layer record has an unknown segment {other}"))),
    }
}

fn copy_raw(segments: &mut Segments, bytes: u64, out: &mut dyn Write) -> io::Result<()> {
    if io::copy(&mut segments.take(bytes), out)? < bytes { Err(ends_early()) } else { Ok(()) }
}

pub(super) fn ends_early() -> io::Error {
    invalid("layer record ends too early")
}

fn replay_content(length: u64, digest: [u8; 32], path: &[u8], root: &Root, out: &mut dyn Write) -> io::Result<()> {
    let shown = String::from_utf8_lossy(path).into_owned();
    let (parent, name) = super::split(path).ok_or_else(|| invalid("layer record names the root as a file"))?;
    let mut file = root.file(parent, name).map_err(|e| io::Error::new(e.kind(), format!("{shown}: {e}")))?.take(length);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count])?;
        total += count as u64;
    }
    if total == length && <[u8; 32]>::from(hasher.finalize()) == digest {
        Ok(())
    } else {
        Err(invalid(format!("{shown}: is not what the layer brought")))
    }
}

fn array<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}
