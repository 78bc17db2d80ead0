//! Pieces of stream handling that attach and exec share: stdcopy headers and detach keys.

use std::borrow::Cow;
use std::os::fd::AsRawFd;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::error::{Error, Result};

/// Docker's default: ctrl-p ctrl-q.
const DEFAULT_DETACH_KEYS: [u8; 2] = [16, 17];

/// Registers a descriptor with the runtime.
#[expect(
    deprecated,
    reason = "the safe constructor: everything passed here owns its descriptor and never exchanges it"
)]
pub(crate) fn watch<T: AsRawFd>(owner: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::new(owner)
}

/// A stdcopy header: `[kind, 0, 0, 0, length as big-endian u32]`.
pub fn frame_header(kind: u8, length: usize) -> [u8; 8] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

/// Watches typed bytes for the detach sequence.
#[derive(Clone, Debug)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    /// How much of the sequence has been typed (and held back).
    matched: usize,
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q`; empty text is Docker's default.
    pub fn parse(text: &str) -> Result<DetachKeys> {
        if text.is_empty() {
            return Ok(DetachKeys { sequence: DEFAULT_DETACH_KEYS.to_vec(), matched: 0 });
        }
        let bad =
            |key: &str| Error::invalid(format!("Invalid escape keys ({text}) provided: Unknown character: '{key}'"));
        let sequence = text
            .split(',')
            .map(|key| match key.strip_prefix("ctrl-").map(str::as_bytes) {
                None => match key.as_bytes() {
                    [byte] => Ok(*byte),
                    _ => Err(bad(key)),
                },
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some([letter @ b'A'..=b'Z']) => Ok(letter - b'A' + 1),
                Some([b'@']) => Ok(0),
                Some([b'[']) => Ok(27),
                Some([b'\\']) => Ok(28),
                Some([b']']) => Ok(29),
                Some([b'^']) => Ok(30),
                Some([b'_']) => Ok(31),
                Some(_) => Err(bad(key)),
            })
            .collect::<Result<_>>()?;
        Ok(DetachKeys { sequence, matched: 0 })
    }

    /// Never detaches.
    pub fn none() -> DetachKeys {
        DetachKeys { sequence: Vec::new(), matched: 0 }
    }

    /// The bytes to pass on, and whether the sequence is complete (bytes after it are dropped).
    pub fn filter<'b>(&mut self, bytes: &'b [u8]) -> (Cow<'b, [u8]>, bool) {
        if self.sequence.is_empty() || (self.matched == 0 && !bytes.contains(&self.sequence[0])) {
            return (Cow::Borrowed(bytes), false);
        }
        let mut passed = Vec::with_capacity(bytes.len() + self.matched);
        for &byte in bytes {
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (Cow::Owned(passed), true);
                }
                continue;
            }
            passed.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = usize::from(byte == self.sequence[0]);
            if self.matched == 0 {
                passed.push(byte);
            }
        }
        (Cow::Owned(passed), false)
    }
}

/// How a client's attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachEnd {
    /// The container ended and all output was delivered.
    Ended,
    /// The client typed the detach keys.
    Detached,
    /// The client went away.
    ClientGone,
}

/// Copies between a container's attachment and a client. The client's half-close is end of input, no more; `gone`
/// resolves when the client has closed both directions.
pub async fn pump_attach<C: AsyncRead + AsyncWrite + Unpin + Send>(
    mut container: UnixStream,
    client: C,
    mut keys: DetachKeys,
    gone: impl Future<Output = ()>,
) -> AttachEnd {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_container, mut to_container) = container.split();
    let input = async {
        let mut buffer = Vec::with_capacity(16 * 1024);
        while matches!(from_client.read_buf(&mut buffer).await, Ok(1..)) {
            let (bytes, detach) = keys.filter(&buffer);
            if to_container.write_all(&bytes).await.is_err() {
                break;
            }
            if detach {
                return AttachEnd::Detached;
            }
            buffer.clear();
        }
        _ = to_container.shutdown().await;
        gone.await;
        AttachEnd::ClientGone
    };
    let output = async {
        let mut buffer = Vec::with_capacity(64 * 1024);
        while matches!(from_container.read_buf(&mut buffer).await, Ok(1..)) {
            // Buffers of the client's side must not hold output back.
            if to_client.write_all(&buffer).await.is_err() || to_client.flush().await.is_err() {
                return AttachEnd::ClientGone;
            }
            buffer.clear();
        }
        AttachEnd::Ended
    };
    let end = tokio::select! {
        end = output => end,
        end = input => end,
    };
    _ = to_client.shutdown().await;
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_sequence_is_found_across_reads() {
        let mut keys = DetachKeys::parse("").unwrap();
        assert_eq!(keys.filter(b"ab\x10"), (Cow::Borrowed(&b"ab"[..]), false));
        assert_eq!(keys.filter(b"\x11rest"), (Cow::Borrowed(&b""[..]), true));
        let mut keys = DetachKeys::parse("ctrl-a,x").unwrap();
        assert_eq!(keys.filter(b"\x01\x01y"), (Cow::Borrowed(&b"\x01\x01y"[..]), false));
        assert!(DetachKeys::parse("ctrl-foo").is_err());
    }
}
