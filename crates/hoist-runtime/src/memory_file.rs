//! What is too long for a datagram travels in a file without a name, in memory (memfd_create(2)).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

/// A file that holds `bytes`.
pub(crate) fn write(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("hoist-message", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// All that is in one. `InvalidData` if that is more than `max` bytes.
pub(crate) fn read(file: OwnedFd, max: usize) -> io::Result<Vec<u8>> {
    let file = File::from(file);
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message in memory is too long"));
    }
    let mut bytes = vec![0; length];
    // The offset is where the writer left it.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_no_more_than_allowed() {
        let bytes = vec![7; 300_000];
        assert_eq!(read(write(&bytes).unwrap(), bytes.len()).unwrap(), bytes);
        let error = read(write(&bytes).unwrap(), bytes.len() - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
