//! Content digests: checking their form, computing them while bytes pass by. Owns no files.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::blobs::{Algorithm, parse_digest};

/// The hex part of a well-formed `sha256:…`; other algorithms are refused by name.
pub(crate) fn hex_of(digest: &str) -> Result<&str, Error> {
    match parse_digest(digest)? {
        (Algorithm::Sha256, hex) => Ok(hex),
        (other, _) => Err(Error::Invalid(format!("unsupported digest algorithm {:?} in {digest:?}", other.name()))),
    }
}

/// `sha256:…` of some bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    finish(Sha256::new_with_prefix(bytes))
}

/// Docker's twelve characters of an id.
pub(crate) fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// The chain ids of a stack of layers, lowest first: each names a layer together with all below it (OCI image-spec,
/// config.md "Layer ChainID").
pub(crate) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => of_bytes(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        };
        chain.push(next);
    }
    chain
}

pub(crate) fn finish(hasher: Sha256) -> String {
    text("sha256:", &hasher.finalize())
}

/// A prefix and bytes in hex.
pub(crate) fn text(prefix: &str, bytes: &[u8]) -> String {
    let mut text = String::with_capacity(prefix.len() + 2 * bytes.len());
    text.push_str(prefix);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

/// Hashes and counts what is read through it.
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        HashingReader { inner, hasher: Sha256::new(), bytes: 0 }
    }

    pub(crate) fn read_so_far(&self) -> u64 {
        self.bytes
    }

    /// The digest of what was read so far.
    pub(crate) fn finish(&self) -> String {
        finish(self.hasher.clone())
    }

    /// Reads on to the end: a digest covers trailing bytes that the parser above had no use for.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(|_| ())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_sha256_is_a_digest() {
        let good = of_bytes(b"");
        assert_eq!(good, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(hex_of(&good).is_ok());
        for bad in ["", "sha256", "sha256:", "sha256:../../x", &good.to_uppercase(), "sha512:00"] {
            assert!(hex_of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chain_ids_start_with_the_lowest_diff_id() {
        let ids = vec![of_bytes(b"a"), of_bytes(b"b")];
        let chain = chain_ids(&ids);
        assert_eq!(chain[0], ids[0]);
        assert_eq!(chain[1], of_bytes(format!("{} {}", ids[0], ids[1]).as_bytes()));
    }
}
