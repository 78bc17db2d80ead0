//! Unpacking a layer that may be larger than it looks: both of its forms are hashed, and one that was made to fill a disk is
//! cut.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::decompress;
use crate::digest::HashingReader;
use crate::records::LayerBytes;
use crate::unpack::{self, Target, Whiteouts};

/// Up to here a layer may be as much larger than its compressed form as it likes.
const PLAIN_FREE_BYTES: u64 = 1 << 30;
/// Beyond, gzip's own limit: what expands more was made to harm.
const EXPANSION_MAX: u64 = 1100;

/// Unpacks a layer, compressed or not, and reads it to its end. Returns its diff id and sizes.
pub(super) fn unpack(
    compressed: &mut HashingReader<impl Read>,
    target: Target<'_>,
    whiteouts: Whiteouts,
) -> io::Result<(String, LayerBytes)> {
    let counter = CountedSource { source: compressed, count: Rc::default() };
    let count = counter.count.clone();
    let (format, sniffed) = decompress::sniff(counter)?;
    let plain = decompress::open(format, sniffed)?;
    let mut plain = HashingReader::new(BombGuard { inner: plain, compressed_bytes: count, plain_bytes: 0 });
    let content = unpack::unpack(&mut plain, target, whiteouts)?;
    plain.drain()?;
    let diff_id = plain.finish();
    let bytes = LayerBytes { content, tar: Some(plain.read_so_far()) };
    drop(plain);
    // The decompressor may have stopped short of bytes that belong to the digest.
    compressed.drain()?;
    Ok((diff_id, bytes))
}

/// Counts compressed bytes where the guard above can see them.
struct CountedSource<'a, R> {
    source: &'a mut HashingReader<R>,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for CountedSource<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.count.set(self.source.read_so_far());
        Ok(count)
    }
}

/// Ends a stream that expands beyond all reason.
struct BombGuard<R> {
    inner: R,
    compressed_bytes: Rc<Cell<u64>>,
    plain_bytes: u64,
}

impl<R: Read> Read for BombGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.plain_bytes += count as u64;
        let allowed = PLAIN_FREE_BYTES.max(self.compressed_bytes.get().saturating_mul(EXPANSION_MAX));
        if self.plain_bytes > allowed {
            let text = format!("layer expands to more than {EXPANSION_MAX} times its compressed size");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_expands_without_end_is_cut() {
        let compressed = Rc::new(Cell::new(0));
        let plain_bytes = PLAIN_FREE_BYTES - 10;
        let mut guard = BombGuard { inner: io::repeat(0), compressed_bytes: compressed.clone(), plain_bytes };
        assert_eq!(guard.read(&mut [0; 10]).unwrap(), 10);
        assert!(guard.read(&mut [0; 1]).unwrap_err().to_string().contains("expands to more than"));
        // The same number of bytes from a layer that is really that large is fine.
        compressed.set(PLAIN_FREE_BYTES / 100);
        assert_eq!(guard.read(&mut [0; 10]).unwrap(), 10);
    }
}
