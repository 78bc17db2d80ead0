//! Fetching manifests, configs and layers. A layer streams into a bounded channel whose other end unpacks it; when the
//! connection breaks the next one goes on where it stopped.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hyper::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LINK, RANGE};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::client::Repository;
use super::endpoint::Origin;
use super::error::Failure;
use super::transport::{document, next_chunk};
use crate::manifest::{self, Descriptor};
use crate::{config, digest};

/// Chunks on their way from socket to unpacker, each at most some hundred KiB.
const CHUNKS_IN_FLIGHT: usize = 16;
/// Slower than this over a whole interval, a connection is given up and made anew.
pub(super) const SLOW_BYTES: u64 = 16 * 1024;
pub(super) const SLOW_INTERVAL: Duration = Duration::from_secs(30);
const TAGS_PAGES_MAX: usize = 1000;
const TAGS_PAGE_MAX_BYTES: u64 = 8 << 20;
pub(super) const DIGEST_HEADER: &str = "docker-content-digest";

/// A manifest as it came, verified.
#[derive(Clone, Debug)]
pub(crate) struct FetchedManifest {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// The digest a tag has now, if the registry tells without sending the manifest (which some of them count).
    pub(crate) async fn tag_digest(&self, tag: &str) -> Result<Option<String>, Failure> {
        match self.request(Method::HEAD, &format!("manifests/{tag}"), &accept()).await {
            Ok(answer) => {
                let header = answer.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
                Ok(header.filter(|text| digest::hex_of(text).is_ok()).map(str::to_owned))
            }
            // The answer to HEAD has no body that would say what is wrong: ask again by GET.
            Err(Failure::Refused(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// A manifest by tag or digest.
    pub(crate) async fn manifest(&self, reference: &str) -> Result<FetchedManifest, Failure> {
        let answer = self.request(Method::GET, &format!("manifests/{reference}"), &accept()).await?;
        let header = |name: &str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned()
        };
        let (media_type, promised) = (header(CONTENT_TYPE.as_str()), header(DIGEST_HEADER));
        let bytes = document(answer.into_body(), manifest::DOCUMENT_MAX_BYTES).await.map_err(Failure::Unreachable)?;
        let digest = digest::of_bytes(&bytes);
        let wanted = if reference.contains(':') { reference } else { promised.as_str() };
        if !wanted.is_empty() && wanted != digest {
            return Err(Failure::Broken(format!("manifest verification failed for digest {wanted}")));
        }
        Ok(FetchedManifest { digest, media_type, bytes })
    }

    /// A config document, verified.
    pub(crate) async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        if descriptor.size > config::DOCUMENT_MAX_BYTES {
            return Err(Failure::Broken(format!("image config of {} bytes is too large", descriptor.size)));
        }
        let answer = self.request(Method::GET, &format!("blobs/{}", descriptor.digest), &[]).await?;
        let bytes = document(answer.into_body(), config::DOCUMENT_MAX_BYTES).await.map_err(Failure::Unreachable)?;
        if digest::of_bytes(&bytes) != descriptor.digest {
            return Err(Failure::Broken(format!("image config verification failed for digest {}", descriptor.digest)));
        }
        Ok(bytes)
    }

    /// All tags of the repository.
    pub(crate) async fn tags(&self) -> Result<Vec<String>, Failure> {
        let mut tags = Vec::new();
        let mut answer = self.request(Method::GET, "tags/list", &[]).await?;
        for _ in 0..TAGS_PAGES_MAX {
            let next = answer.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(next_page);
            let bytes = document(answer.into_body(), TAGS_PAGE_MAX_BYTES).await.map_err(Failure::Unreachable)?;
            let page: TagList =
                serde_json::from_slice(&bytes).map_err(|e| Failure::Broken(format!("invalid list of tags: {e}")))?;
            tags.extend(page.tags.unwrap_or_default());
            let Some(path) = next else { return Ok(tags) };
            answer = self.request_path(Method::GET, &path, &[]).await?;
        }
        Err(Failure::Broken("the list of tags does not end".to_owned()))
    }

    /// Streams a layer into `sink` from `offset`, resuming where a connection broke. Returns when all of it was taken; may
    /// be dropped before, then `offset` says how far it came. Says nothing about the digest, which the receiver computes.
    pub(crate) async fn layer(
        &self,
        descriptor: &Descriptor,
        offset: &mut u64,
        sink: &ChunkSink,
        report: &(dyn Fn(LayerEvent) + Send + Sync),
    ) -> Result<(), Failure> {
        let mut attempt = 0;
        loop {
            let before = *offset;
            let failure = match self.layer_part(descriptor, offset, sink, report).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // Progress earns new attempts: a line that drops every minute still gets there.
            attempt = if *offset > before { 1 } else { attempt + 1 };
            tracing::debug!(digest = %descriptor.digest, ?failure, offset = *offset, attempt, "layer download broke off");
            let pause = self.pause(&failure, attempt).ok_or(failure)?;
            report(LayerEvent::Retrying(pause));
            tokio::time::sleep(pause).await;
        }
    }

    async fn layer_part(
        &self,
        descriptor: &Descriptor,
        offset: &mut u64,
        sink: &ChunkSink,
        report: &(dyn Fn(LayerEvent) + Send + Sync),
    ) -> Result<(), Failure> {
        let mut headers: Vec<(HeaderName, String)> = Vec::new();
        if *offset > 0 {
            headers.push((RANGE, format!("bytes={offset}-")));
        }
        let answer = self.request_once(Method::GET, &format!("blobs/{}", descriptor.digest), &headers).await?;
        let mut to_skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let start = range.and_then(range_start);
                start.filter(|start| start <= offset).map(|start| *offset - start).ok_or_else(|| {
                    Failure::Broken(format!("layer {}: answered with another range than asked", descriptor.digest))
                })?
            }
            // The server does not do ranges: all of it again.
            _ => *offset,
        };
        let mut body = answer.into_body();
        let mut pace = Pace::start();
        while *offset < descriptor.size {
            let Some(mut chunk) = next_chunk(&mut body).await.map_err(Failure::Unreachable)? else { break };
            pace.check(chunk.len() as u64)?;
            let skipped = usize::try_from(to_skip).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(skipped);
            to_skip -= skipped as u64;
            if chunk.is_empty() {
                continue;
            }
            if *offset + chunk.len() as u64 > descriptor.size {
                return Err(too_long(descriptor));
            }
            let waited = Instant::now();
            let place = sink.place().await?;
            // No waiting between these two: the offset counts what the unpacker has.
            *offset += chunk.len() as u64;
            place.send(Part::Data(chunk));
            // Time the unpacker took is not the server's.
            pace.forgive(waited.elapsed());
            report(LayerEvent::Received(*offset));
        }
        if *offset < descriptor.size {
            return Err(Failure::Unreachable("unexpected EOF".to_owned()));
        }
        match next_chunk(&mut body).await {
            Ok(Some(_)) => Err(too_long(descriptor)),
            _ => Ok(()),
        }
    }
}

/// What happens to a layer on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LayerEvent {
    Received(u64),
    Retrying(Duration),
}

fn too_long(descriptor: &Descriptor) -> Failure {
    Failure::Broken(format!(
        "layer {} is longer than the {} bytes its manifest says",
        descriptor.digest, descriptor.size
    ))
}

/// Tells a crawling server from a slow line.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn start() -> Pace {
        Pace { since: Instant::now(), bytes: 0 }
    }

    fn check(&mut self, bytes: u64) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.since.elapsed() < SLOW_INTERVAL {
            return Ok(());
        }
        if self.bytes < SLOW_BYTES {
            let text = format!("only {} bytes came in {} seconds", self.bytes, SLOW_INTERVAL.as_secs());
            return Err(Failure::Unreachable(text));
        }
        *self = Pace::start();
        Ok(())
    }

    fn forgive(&mut self, waited: Duration) {
        self.since += waited;
    }
}

fn accept() -> [(HeaderName, String); 1] {
    let types = [
        manifest::MEDIA_OCI_INDEX,
        manifest::MEDIA_DOCKER_LIST,
        manifest::MEDIA_OCI_MANIFEST,
        manifest::MEDIA_DOCKER_MANIFEST,
    ];
    [(ACCEPT, types.join(", "))]
}

/// `bytes 100-199/200`
pub(super) fn range_start(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// `</v2/x/tags/list?last=a&n=100>; rel="next"`: the path, on the same registry whatever host it names.
pub(super) fn next_page(value: &str) -> Option<String> {
    let (target, rest) = value.trim().strip_prefix('<')?.split_once('>')?;
    if !rest.contains("next") {
        return None;
    }
    if target.starts_with('/') { Some(target.to_owned()) } else { Origin::of_url(target).ok().map(|(_, path)| path) }
}

/// The unpacker went away while its layer was still coming.
pub(crate) fn not_wanted() -> Failure {
    Failure::Broken("layer is not wanted any more".to_owned())
}

/// The sending half of a layer's stream.
#[derive(Debug)]
pub(crate) struct ChunkSink {
    sender: mpsc::Sender<Part>,
}

/// The receiving half, for the blocking thread that unpacks.
pub(crate) struct ChunkReader {
    receiver: mpsc::Receiver<Part>,
    current: Bytes,
    ended: bool,
}

pub(super) enum Part {
    Data(Bytes),
    End,
    Failed(String),
}

pub(crate) fn channel() -> (ChunkSink, ChunkReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    (ChunkSink { sender }, ChunkReader { receiver, current: Bytes::new(), ended: false })
}

impl ChunkReader {
    /// What comes, for a reader that does not block.
    pub(super) fn into_parts(self) -> mpsc::Receiver<Part> {
        self.receiver
    }
}

impl ChunkSink {
    /// [`ChunkSink::send`] for a thread that may block.
    pub(crate) fn send_blocking(&self, chunk: Bytes) -> bool {
        self.sender.blocking_send(Part::Data(chunk)).is_ok()
    }

    /// [`ChunkSink::finish`] for a thread that may block.
    pub(crate) fn finish_blocking(self) {
        // Nobody reads: nobody wants to know.
        let _ = self.sender.blocking_send(Part::End);
    }

    async fn place(&self) -> Result<mpsc::Permit<'_, Part>, Failure> {
        self.sender.reserve().await.map_err(|_| not_wanted())
    }

    /// Hands over a piece; false if nobody reads any more.
    pub(super) async fn send(&self, chunk: Bytes) -> bool {
        self.sender.send(Part::Data(chunk)).await.is_ok()
    }

    /// Says why no more comes.
    pub(crate) async fn fail(self, text: String) {
        // Nobody reads: nobody wants to know.
        let _ = self.sender.send(Part::Failed(text)).await;
    }

    /// Says that all came. Without it the reader sees a failure, not an end.
    pub(crate) async fn finish(self) {
        // As above.
        let _ = self.sender.send(Part::End).await;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Part::Data(chunk)) => self.current = chunk,
                Some(Part::End) => self.ended = true,
                Some(Part::Failed(text)) => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text)),
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "download was cancelled")),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current[..count]);
        self.current.advance(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_on_the_registry() {
        assert_eq!(next_page("</v2/x/tags/list?n=1>; rel=\"next\"").as_deref(), Some("/v2/x/tags/list?n=1"));
        assert_eq!(next_page("<https://evil.io/v2/x>; rel=next").as_deref(), Some("/v2/x"));
        assert_eq!(next_page("</x>; rel=prev"), None);
    }

    #[test]
    fn a_stream_without_its_end_is_an_error() {
        let (sink, mut reader) = channel();
        drop(sink);
        assert_eq!(reader.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
