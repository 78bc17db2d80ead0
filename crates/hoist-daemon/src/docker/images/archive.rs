//! Archives of images: `POST /images/load`, and a request's body as a reader.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use hoist_api::error::Error;
use hoist_image::{Progress, ProgressSink};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::progress::{Line, first_or_error, progress_stream};
use super::{Answer, Call, platforms};

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
            out.send_blocking(Line::Failed(error));
        }
    });
    first_or_error(receiver).await
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
