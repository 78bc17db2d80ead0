//! Putting things into a repository (distribution-spec "Push"): blobs by streams that can be taken up again where they
//! broke off, blobs of other repositories of the same registry, and manifests.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use hyper::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::blob::{ChunkReader, DIGEST_HEADER, Part, SLOW_BYTES, SLOW_INTERVAL};
use super::client::Repository;
use super::error::Failure;
use crate::digest;

const OCTETS: &str = "application/octet-stream";

/// An upload that a registry has begun for us.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Where its next piece goes; each answer names another place.
    location: String,
}

/// What became of the wish to have a blob of another repository.
pub(crate) enum Mount {
    Done,
    /// The registry would rather have the bytes.
    Refused(Upload),
}

impl Repository {
    /// The size of a blob that is there.
    pub(crate) async fn blob_bytes(&self, digest: &str) -> Result<Option<u64>, Failure> {
        match self.request(Method::HEAD, &format!("blobs/{digest}"), &[]).await {
            Ok(answer) => Ok(Some(number(&answer, CONTENT_LENGTH.as_str()).unwrap_or(0))),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Asks the registry to take a blob from another of its repositories.
    pub(crate) async fn mount(&self, digest: &str, from: &str) -> Result<Mount, Failure> {
        let what = format!("blobs/uploads/?mount={digest}&from={from}");
        let outgoing = self.outgoing_below(Method::POST, &what, &[(CONTENT_LENGTH, "0".to_owned())]);
        let answer = self.exchange(outgoing, &format!("repository:{from}:pull")).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(Mount::Done);
        }
        self.upload_of(&answer, None).map(Mount::Refused)
    }

    /// Begins an upload.
    pub(crate) async fn begin_upload(&self) -> Result<Upload, Failure> {
        let outgoing = self.outgoing_below(Method::POST, "blobs/uploads/", &[(CONTENT_LENGTH, "0".to_owned())]);
        let answer = self.exchange(outgoing, "").await?;
        self.upload_of(&answer, None)
    }

    /// Forgets an upload; best effort, registries forget by themselves too.
    pub(crate) async fn cancel_upload(&self, upload: Upload) {
        let Ok(outgoing) = self.outgoing_to(Method::DELETE, &upload.location) else { return };
        if let Err(failure) = self.exchange(outgoing, "").await {
            tracing::debug!(?failure, "upload not cancelled");
        }
    }

    /// How many bytes of an interrupted upload the registry has; none if it is not to be continued.
    pub(crate) async fn resume_upload(&self, upload: &mut Upload) -> Result<Option<u64>, Failure> {
        let outgoing = self.outgoing_to(Method::GET, &upload.location)?;
        let answer = match self.exchange(outgoing, "").await {
            Ok(answer) => answer,
            Err(failure) if failure.is_transient() => return Err(failure),
            // Unknown, or known to a process of the registry that is no more.
            Err(_) => return Ok(None),
        };
        let range = answer.headers().get(RANGE).and_then(|value| value.to_str().ok());
        let have = range.and_then(range_end);
        *upload = self.upload_of(&answer, Some(&upload.location))?;
        Ok(have)
    }

    /// Sends bytes, all that come, from where the registry has them on.
    pub(crate) async fn append(&self, upload: &mut Upload, bytes: ChunkReader) -> Result<(), Failure> {
        self.append_body(upload, Upstream::new(bytes)).await
    }

    /// The same, with the digest of what was sent.
    pub(crate) async fn append_hashed(&self, upload: &mut Upload, bytes: ChunkReader) -> Result<String, Failure> {
        let mut body = Upstream::new(bytes);
        let hasher = body.hasher.insert(Arc::default()).clone();
        self.append_body(upload, body).await?;
        let hasher = hasher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(digest::finish(hasher))
    }

    async fn append_body(&self, upload: &mut Upload, body: Upstream) -> Result<(), Failure> {
        let mut outgoing = self.outgoing_to(Method::PATCH, &upload.location)?;
        outgoing.headers.push((CONTENT_TYPE, OCTETS.to_owned()));
        let answer = self.exchange_stream(outgoing, body).await?;
        *upload = self.upload_of(&answer, Some(&upload.location))?;
        Ok(())
    }

    /// Makes a blob of what was sent, with `last` at its end. The registry checks the digest.
    pub(crate) async fn finish_upload(&self, upload: &Upload, digest: &str, last: Bytes) -> Result<(), Failure> {
        let separator = if upload.location.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}digest={}", upload.location, digest.replace(':', "%3A"));
        let mut outgoing = self.outgoing_to(Method::PUT, &url)?;
        outgoing.headers.push((CONTENT_TYPE, OCTETS.to_owned()));
        outgoing.body = Some(last);
        self.exchange(outgoing, "").await.map(drop)
    }

    /// Puts a small blob there unless it is there.
    pub(crate) async fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), Failure> {
        if self.blob_bytes(digest).await?.is_some() {
            return Ok(());
        }
        let mut attempt = 0;
        loop {
            let sent = async {
                let upload = self.begin_upload().await?;
                self.finish_upload(&upload, digest, Bytes::copy_from_slice(bytes)).await
            };
            let Err(failure) = sent.await else { return Ok(()) };
            attempt += 1;
            tokio::time::sleep(self.pause(&failure, attempt).ok_or(failure)?).await;
        }
    }

    /// Puts a manifest there under a tag, and under its digest by that.
    pub(crate) async fn put_manifest(&self, tag: &str, media_type: &str, bytes: &[u8]) -> Result<(), Failure> {
        let headers: [(HeaderName, String); 1] = [(CONTENT_TYPE, media_type.to_owned())];
        let mut attempt = 0;
        loop {
            let mut outgoing = self.outgoing_below(Method::PUT, &format!("manifests/{tag}"), &headers);
            outgoing.body = Some(Bytes::copy_from_slice(bytes));
            let failure = match self.exchange(outgoing, "").await {
                Ok(answer) => {
                    let stored = answer.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
                    let wanted = digest::of_bytes(bytes);
                    return match stored {
                        Some(stored) if stored != wanted => {
                            Err(Failure::Broken(format!("the registry keeps manifest {wanted} as {stored}")))
                        }
                        _ => Ok(()),
                    };
                }
                Err(failure) => failure,
            };
            attempt += 1;
            tokio::time::sleep(self.pause(&failure, attempt).ok_or(failure)?).await;
        }
    }

    /// The place that an answer names. It is kept whole: where it is relative, to what it was an answer of.
    fn upload_of(&self, answer: &Response<Incoming>, before: Option<&str>) -> Result<Upload, Failure> {
        let named =
            answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
        let missing = || Failure::Broken("the registry does not say where an upload goes".to_owned());
        let Some(location) = named.or(before) else { return Err(missing()) };
        let relative = location.starts_with('/') && !location.starts_with("//");
        let location = match before {
            // Relative to where the last piece went, which need not be the registry itself.
            Some(before) if relative => {
                let outgoing = self.outgoing_to(Method::GET, before)?;
                format!("{}{location}", outgoing.origin)
            }
            _ => location.to_owned(),
        };
        self.outgoing_to(Method::GET, &location)?;
        Ok(Upload { location })
    }
}

fn number(answer: &Response<Incoming>, header: &str) -> Option<u64> {
    answer.headers().get(header)?.to_str().ok()?.trim().parse().ok()
}

/// `0-99`, or `bytes=0-99`: there are a hundred bytes. `0-0` is one byte or none, so it says nothing.
pub(super) fn range_end(value: &str) -> Option<u64> {
    let value = value.trim();
    let (start, end) = value.strip_prefix("bytes=").unwrap_or(value).split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    (start.trim() == "0" && end > 0).then(|| end.checked_add(1)).flatten()
}

/// A request's body that comes from a thread or another connection.
pub(super) struct Upstream {
    parts: mpsc::Receiver<Part>,
    watch: Watch,
    hasher: Option<Arc<Mutex<Sha256>>>,
}

/// Sees whether a body moves.
#[derive(Clone, Default)]
pub(super) struct Watch {
    sent_bytes: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Upstream {
    fn new(bytes: ChunkReader) -> Upstream {
        Upstream { parts: bytes.into_parts(), watch: Watch::default(), hasher: None }
    }

    pub(super) fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl Watch {
    /// Ends when the other side takes next to nothing for a while, or does not answer for `patience` after the end.
    pub(super) async fn stalled(&self, patience: Duration) -> String {
        loop {
            let before = self.sent_bytes.load(Ordering::Relaxed);
            tokio::time::sleep(SLOW_INTERVAL).await;
            if self.ended.load(Ordering::Relaxed) {
                tokio::time::sleep(patience).await;
                return "net/http: timeout awaiting response headers".to_owned();
            }
            let moved = self.sent_bytes.load(Ordering::Relaxed).saturating_sub(before);
            if moved < SLOW_BYTES {
                return format!("only {moved} bytes went in {} seconds", SLOW_INTERVAL.as_secs());
            }
        }
    }
}

impl Body for Upstream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let aborted = |text: String| Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, text))));
        match self.parts.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Part::Data(bytes))) => {
                self.watch.sent_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if let Some(hasher) = &self.hasher {
                    hasher.lock().unwrap_or_else(PoisonError::into_inner).update(&bytes);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Some(Part::End)) => {
                self.watch.ended.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Part::Failed(text))) => aborted(text),
            Poll::Ready(None) if self.watch.ended.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Ready(None) => aborted("upload was cancelled".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_how_much_there_is_or_nothing() {
        assert_eq!(range_end("0-99"), Some(100));
        assert_eq!(range_end("bytes=0-99"), Some(100));
        for doubtful in ["", "0", "0-0", "5-9", "0-x", "0-18446744073709551615", "-1"] {
            assert_eq!(range_end(doubtful), None, "{doubtful}");
        }
    }
}
