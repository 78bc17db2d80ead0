//! The multiplexed stream of containers without a terminal: `[kind, 0, 0, 0, length as u32 big endian] payload`.
//! Payload is handed on as it arrives; nothing is held but an unfinished header. Frames of other kinds (the
//! engine's own control messages) are collected whole and handed on by kind.

use crate::{Error, Result};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// An error of the engine itself inside the stream; the payload is its text.
pub const SYSTEM_ERROR: u8 = 3;
/// A JSON control message of Hoist's own run protocol.
pub const CONTROL: u8 = 16;

const HEADER_LENGTH: usize = 8;
/// Longest control or error frame.
const WHOLE_LIMIT: usize = 4 << 20;

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Stdout(&'a [u8]),
    Stderr(&'a [u8]),
    Control(&'a [u8]),
}

/// Takes a multiplexed stream apart, whatever the boundaries of the reads it came in.
#[derive(Debug, Default)]
pub struct Demux {
    header: [u8; HEADER_LENGTH],
    filled: usize,
    left: usize,
    whole: Vec<u8>,
}

impl Demux {
    pub fn push<E: From<Error>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while !bytes.is_empty() {
            if self.filled < HEADER_LENGTH {
                let count = bytes.len().min(HEADER_LENGTH - self.filled);
                self.header[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
                self.filled += count;
                bytes = &bytes[count..];
                if self.filled == HEADER_LENGTH {
                    self.begin_frame()?;
                }
            } else {
                let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
                self.left -= payload.len();
                bytes = rest;
                match self.header[0] {
                    STDIN | STDOUT => sink(Piece::Stdout(payload))?,
                    STDERR => sink(Piece::Stderr(payload))?,
                    _ => self.whole.extend_from_slice(payload),
                }
            }
            if self.filled == HEADER_LENGTH && self.left == 0 {
                self.filled = 0;
                let whole = std::mem::take(&mut self.whole);
                match self.header[0] {
                    CONTROL => sink(Piece::Control(&whole))?,
                    SYSTEM_ERROR => {
                        let text = String::from_utf8_lossy(&whole);
                        return Err(Error::Protocol(format!("error from daemon in stream: {text}")).into());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self) -> Result<()> {
        let [kind, _, _, _, length @ ..] = self.header;
        self.left = u32::from_be_bytes(length) as usize;
        match kind {
            STDIN | STDOUT | STDERR => Ok(()),
            SYSTEM_ERROR | CONTROL if self.left <= WHOLE_LIMIT => Ok(()),
            SYSTEM_ERROR | CONTROL => Err(Error::Protocol(format!("frame of {} bytes is too long", self.left))),
            _ => Err(Error::Protocol(format!("unrecognized input header: {kind}"))),
        }
    }
}

/// A frame to send.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LENGTH + payload.len());
    out.extend([kind, 0, 0, 0]);
    out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(bytes: &[u8], step: usize) -> Result<(String, String, String)> {
        let (mut out, mut err, mut control) = (Vec::new(), Vec::new(), Vec::new());
        let mut demux = Demux::default();
        for part in bytes.chunks(step) {
            demux.push(part, |piece| -> Result<()> {
                match piece {
                    Piece::Stdout(payload) => out.extend_from_slice(payload),
                    Piece::Stderr(payload) => err.extend_from_slice(payload),
                    Piece::Control(payload) => control.extend_from_slice(payload),
                }
                Ok(())
            })?;
        }
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ok((text(out), text(err), text(control)))
    }

    #[test]
    fn frames_come_apart_at_every_read_boundary() {
        let mut stream = frame(STDOUT, b"hello ");
        stream.extend(frame(STDERR, b"oops"));
        stream.extend(frame(STDOUT, b""));
        stream.extend(frame(CONTROL, b"{\"ExitCode\":0}"));
        stream.extend(frame(STDOUT, b"world"));
        for step in 1..stream.len() {
            let (out, err, control) = taken_apart(&stream, step).unwrap();
            assert_eq!((out.as_str(), err.as_str(), control.as_str()), ("hello world", "oops", "{\"ExitCode\":0}"));
        }
    }

    #[test]
    fn raw_bytes_in_place_of_a_frame_are_an_error() {
        assert!(taken_apart(b"plain text from a terminal", 64).is_err());
        assert!(
            taken_apart(&frame(SYSTEM_ERROR, b"disk on fire"), 64).unwrap_err().to_string().contains("disk on fire")
        );
    }
}
