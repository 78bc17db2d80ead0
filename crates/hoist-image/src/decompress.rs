//! Telling how a stream is compressed by its first bytes, and undoing it: gzip, zstd, xz, bzip2, none.
//! Runs no helper program, and takes a bounded amount of memory whatever a stream asks for.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

/// How many bytes are looked at: a whole tar header block, since tar has its magic at 257.
const SNIFF_BYTES: usize = 512;
const BUFFER_BYTES: usize = 128 * 1024;
/// `xz -9` needs 65 MiB to be read; more is an attack on memory.
const XZ_MEMORY_MAX: u64 = 128 << 20;

/// What the first bytes of a stream say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
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
    let format = format_of(&head);
    Ok((format, Cursor::new(head).chain(reader)))
}

fn format_of(head: &[u8]) -> Format {
    if head.starts_with(&[0x1f, 0x8b]) {
        Format::Gzip
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head) {
        Format::Zstd
    } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Format::Xz
    } else if head.starts_with(b"BZh") {
        Format::Bzip2
    } else if head.len() == SNIFF_BYTES && (head.iter().all(|&b| b == 0) || crate::unpack::is_tar_header(head)) {
        Format::Tar
    } else {
        Format::Unknown
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
        Format::Xz => {
            // Streams may follow one another, as with the xz program.
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, liblzma::stream::CONCATENATED)?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, XzDecoder::new_stream(buffered, stream)))
        }
        Format::Bzip2 => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiBzDecoder::new(buffered))),
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
    fn xz_and_bzip2_streams_follow_one_another() {
        let xz = |bytes: &[u8]| liblzma::encode_all(bytes, 6).unwrap();
        assert_eq!(plain(&[xz(b"one "), xz(b"two")].concat()).unwrap(), b"one two");
        let bzip2 = |bytes: &[u8]| {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(plain(&[bzip2(b"one "), bzip2(b"two")].concat()).unwrap(), b"one two");
        for whole in [xz(&[7; 10_000]), bzip2(&[7; 10_000])] {
            assert!(plain(&whole[..whole.len() - 5]).is_err());
        }
        assert!(plain(b"\xfd7zXZ\0..").is_err());
        assert!(plain(b"BZh91AY").is_err());
    }

    #[test]
    fn an_xz_stream_that_asks_for_too_much_memory_is_refused() {
        let small = {
            let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
            options.dict_size(1 << 20);
            let mut filters = liblzma::stream::Filters::new();
            filters.lzma2(&options);
            let stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(b"x").unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(plain(&small).unwrap(), b"x");
        // The block header is at 12: size, flags, filter id, size of its properties, the dictionary's code, its CRC at the end.
        let mut large = small;
        assert_eq!(large[14..16], [0x21, 1]);
        large[16] = 38;
        let end = 12 + (usize::from(large[12]) + 1) * 4;
        let crc = crc32(&large[12..end - 4]);
        large[end - 4..end].copy_from_slice(&crc.to_le_bytes());
        assert!(plain(&large).unwrap_err().to_string().contains("memory"));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }
}
