//! Telling how a stream is compressed by its first bytes, and undoing it: gzip, zstd, none. Refuses bzip2 and xz by name.
//! Runs no helper program.

use std::io::{self, BufRead, BufReader, Cursor, Read};

/// How many bytes are looked at: a whole tar header block, since tar has its magic at 257.
const SNIFF_BYTES: usize = 512;
const BUFFER_BYTES: usize = 128 * 1024;

/// What the first bytes of a stream say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Gzip,
    Zstd,
    /// A tar, or the zeros that end an empty one.
    Tar,
    Unknown,
}

/// A stream whose beginning was looked at and put back.
pub(crate) type Sniffed<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// Reads far enough to tell the format.
pub(crate) fn sniff<R: Read>(mut reader: R) -> io::Result<(Format, Sniffed<R>)> {
    let mut head = Vec::with_capacity(SNIFF_BYTES);
    reader.by_ref().take(SNIFF_BYTES as u64).read_to_end(&mut head)?;
    let format = format_of(&head)?;
    Ok((format, Cursor::new(head).chain(reader)))
}

fn format_of(head: &[u8]) -> io::Result<Format> {
    let unsupported = |name: &str| {
        let text = format!("compression {name} is not supported: use gzip, zstd or none");
        io::Error::new(io::ErrorKind::Unsupported, text)
    };
    if head.starts_with(&[0x1f, 0x8b]) {
        Ok(Format::Gzip)
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head) {
        Ok(Format::Zstd)
    } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Err(unsupported("xz"))
    } else if head.starts_with(b"BZh") {
        Err(unsupported("bzip2"))
    } else if head.len() == SNIFF_BYTES && (head.iter().all(|&b| b == 0) || crate::unpack::is_tar_header(head)) {
        Ok(Format::Tar)
    } else {
        Ok(Format::Unknown)
    }
}

/// zstd's skippable frames, which may come first (RFC 8878 section 3.1.2).
fn is_skippable_frame(head: &[u8]) -> bool {
    head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18]
}

/// The plain bytes of a stream of this format.
pub(crate) fn open<'a, R: Read + 'a>(format: Format, reader: R) -> io::Result<Box<dyn Read + 'a>> {
    let buffered = BufReader::with_capacity(BUFFER_BYTES, reader);
    Ok(match format {
        Format::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, GzipMembers::new(buffered))),
        Format::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(buffered)?;
            // 128 MiB of window is what `zstd --ultra -22` writes; more is an attack on memory.
            decoder.window_log_max(27)?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
        Format::Tar | Format::Unknown => Box::new(buffered),
    })
}

/// gzip members one after another, as `cat a.gz b.gz` and eStargz make them; zeros after the last one are padding.
struct GzipMembers<R> {
    decoder: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(reader: R) -> Self {
        GzipMembers { decoder: Some(flate2::bufread::GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(decoder) = &mut self.decoder {
            let count = decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            let Some(decoder) = self.decoder.take() else { break };
            let mut rest = decoder.into_inner();
            while rest.fill_buf()?.first() == Some(&0) {
                let zeros = rest.buffer_zeros()?;
                rest.consume(zeros);
            }
            if !rest.fill_buf()?.is_empty() {
                self.decoder = Some(flate2::bufread::GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

trait LeadingZeros {
    fn buffer_zeros(&mut self) -> io::Result<usize>;
}

impl<R: BufRead> LeadingZeros for R {
    fn buffer_zeros(&mut self) -> io::Result<usize> {
        Ok(self.fill_buf()?.iter().take_while(|&&b| b == 0).count())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let (format, reader) = sniff(bytes)?;
        let mut out = Vec::new();
        open(format, reader)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_members_and_zstd_frames_follow_one_another() {
        let mut members = gzip(b"one ");
        members.extend(gzip(b"two"));
        members.extend([0; 100]);
        assert_eq!(plain(&members).unwrap(), b"one two");
        let mut frames = zstd::encode_all(&b"one "[..], 1).unwrap();
        frames.extend(zstd::encode_all(&b"two"[..], 1).unwrap());
        assert_eq!(plain(&frames).unwrap(), b"one two");
    }

    #[test]
    fn a_truncated_stream_is_an_error_not_an_end() {
        let whole = gzip(&[7; 10_000]);
        assert!(plain(&whole[..whole.len() - 9]).is_err());
        let whole = zstd::encode_all(&[7; 10_000][..], 1).unwrap();
        assert!(plain(&whole[..whole.len() - 3]).is_err());
    }

    #[test]
    fn xz_and_bzip2_are_refused_by_name() {
        assert!(plain(b"\xfd7zXZ\0..").unwrap_err().to_string().contains("compression xz is not supported"));
        assert!(plain(b"BZh91AY").unwrap_err().to_string().contains("compression bzip2 is not supported"));
    }
}
