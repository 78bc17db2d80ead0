//! Archives of images: `POST /images/load`, `GET /images/get`, and a request's body as a reader.

use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use hoist_api::error::Error;
use hoist_image::{Progress, ProgressSink};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::progress::{in_band, progress_stream};
use super::{Answer, Call, answer, blocking, platforms};

/// Of an archive that is being written.
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNKS_IN_FLIGHT: usize = 8;

/// `POST /images/load`
pub(in crate::docker) async fn load(call: Call) -> Result<Answer, Error> {
    let platforms = platforms(&call.query.all("platform"))?;
    let engine = call.engine.clone();
    let quiet = call.query.flag_or("quiet", true);
    let mut tar = BodyReader::new(call.request.into_body());
    let (out, sink, receiver) = progress_stream();
    tokio::task::spawn_blocking(move || {
        let sink: ProgressSink = if quiet {
            Arc::new(move |progress: Progress| {
                if progress.stream.is_some() {
                    sink(progress);
                }
            })
        } else {
            sink
        };
        let loaded = engine.images.load(&mut tar, &platforms, &sink);
        _ = io::copy(&mut tar, &mut io::sink());
        if let Err(error) = loaded {
            out.error(error);
        }
    });
    Ok(in_band(receiver).await)
}

/// `GET /images/get` and `GET /images/{name}/get`. What is wrong with the names is an answer; what goes wrong later breaks
/// the stream off, so that nobody takes it for an archive.
pub(in crate::docker) async fn save(call: &Call) -> Result<Answer, Error> {
    let platforms = platforms(&call.query.all("platform"))?;
    let names = if call.name.is_empty() { call.query.all("names") } else { vec![call.name.clone()] };
    let images = call.engine.images.clone();
    let archive = blocking(move || images.save(&names, &platforms)).await?;
    let (chunks, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, ChunkWriter { chunks: chunks.clone() });
        let written = archive.write(&mut out);
        if chunks.is_closed() {
            // The client has left: nobody to tell, nothing wrong here.
            drop(out.into_parts());
            return;
        }
        if let Err(error) = written {
            tracing::error!(%error, "an image could not be saved");
            drop(out.into_parts());
            _ = chunks.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    Ok(answer::fallible_stream("application/x-tar", receiver))
}

/// Hands a stream's bytes to the connection.
struct ChunkWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.chunks.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A request body as a blocking reader.
pub(super) struct BodyReader {
    chunks: mpsc::Receiver<Result<Bytes, io::Error>>,
    current: Bytes,
}

impl BodyReader {
    pub(super) fn new(mut body: Incoming) -> BodyReader {
        let (sender, chunks) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let chunk = match frame {
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => Ok(data),
                        Err(_trailers) => continue,
                    },
                    Err(e) => Err(io::Error::other(e)),
                };
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        BodyReader { chunks, current: Bytes::new() }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
