//! `GET /containers/{id}/export`

use std::io::{self, Write};

use bytes::Bytes;
use hoist_api::error::Error;
use tokio::sync::mpsc;

use super::Call;
use super::answer::{self, Answer};

/// Bytes of one piece of a body.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait for a slow client.
const PIECES: usize = 4;

pub(super) fn export(call: &Call) -> Result<Answer, Error> {
    let export = call.engine.containers.export(&call.name)?;
    let (pieces, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let body = BodyWriter { pieces: pieces.clone() };
        if let Err(error) = export.write(io::BufWriter::with_capacity(PIECE_BYTES, body)) {
            tracing::warn!("{error}");
            // the client learns by a body that breaks off; who is gone already needs not know
            _ = pieces.blocking_send(Err(io::Error::other(error.message)));
        }
    });
    Ok(answer::fallible_stream("application/octet-stream", receiver))
}

/// A response's body to write to.
struct BodyWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.pieces.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client went away"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
