//! Blobs on their way in: in one piece, in chunks, or from another repository of this registry.

use bytes::Bytes;
use hoist_image::blobs::Algorithm;
use hyper::StatusCode;
use hyper::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE};

use super::{Call, Pace, at, created};
use crate::answer::{self, Answer};
use crate::error::Error;
use crate::ranges::ChunkRange;
use crate::route;
use crate::store::Sink;

/// Written at a time; as much is gathered meanwhile, and held for each upload.
const BATCH_BYTES: usize = 128 * 1024;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

fn location_of(name: &str, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// Where an upload is and how far it got. An empty one answers `0-0`, as Docker's registry does.
fn progress(status: StatusCode, name: &str, id: &str, length: u64) -> Answer {
    let mut answer = at(answer::status(status), &location_of(name, id));
    answer::set(&mut answer, RANGE, &format!("0-{}", length.saturating_sub(1)));
    answer::set(&mut answer, UPLOAD_ID, id);
    answer
}

pub(super) async fn post(call: &mut Call, name: String) -> Result<Answer, Error> {
    let store = call.registry.store.clone();
    if let Some(digest) = call.query("mount").filter(|text| !text.is_empty()) {
        let digest = route::digest(digest)?;
        let from = call.query("from").filter(|text| !text.is_empty()).map(route::repository).transpose()?;
        let (into, wanted) = (name.clone(), digest.clone());
        if store.run(move |store| store.mount(&into, &wanted, from.as_deref())).await? {
            return Ok(created(&format!("/v2/{name}/blobs/{digest}"), &digest));
        }
        // There is no such blob: the client is told to upload it.
    }
    let digest = call.query("digest").filter(|text| !text.is_empty()).map(route::digest).transpose()?;
    let algorithm = match (call.query("digest-algorithm"), &digest) {
        (Some(text), _) => Algorithm::named(text)
            .ok_or_else(|| Error::digest_invalid(format!("unsupported digest algorithm {text:?}")))?,
        (None, Some(digest)) if digest.starts_with("sha512:") => Algorithm::Sha512,
        _ => Algorithm::Sha256,
    };
    let repository = name.clone();
    let id = store.run(move |store| store.uploads.begin(&repository, algorithm)).await?;
    match digest {
        None => Ok(progress(StatusCode::ACCEPTED, &name, &id, 0)),
        Some(digest) => {
            let sink = store.take_upload(name.clone(), id.clone()).await?;
            let finished = match receive(call, sink, None).await {
                Ok(sink) => finish(call, &name, sink, digest).await,
                Err(e) => Err(e),
            };
            if finished.is_err() {
                // Nobody was told where to go on.
                let cleared = store.take_upload(name, id).await;
                if let Ok(sink) = cleared {
                    store.run(move |store| store.uploads.remove(&sink)).await?;
                }
            }
            finished
        }
    }
}

pub(super) async fn status(call: &Call, name: String, id: String) -> Result<Answer, Error> {
    let sink = call.registry.store.take_upload(name.clone(), id.clone()).await?;
    Ok(progress(StatusCode::NO_CONTENT, &name, &id, sink.length()))
}

pub(super) async fn patch(call: &mut Call, name: String, id: String) -> Result<Answer, Error> {
    let sink = call.registry.store.take_upload(name.clone(), id.clone()).await?;
    let range = chunk_range(call, &name, &sink)?;
    let sink = receive(call, sink, range).await?;
    Ok(progress(StatusCode::ACCEPTED, &name, &id, sink.length()))
}

pub(super) async fn put(call: &mut Call, name: String, id: String) -> Result<Answer, Error> {
    let digest = call.query("digest").ok_or_else(|| Error::digest_invalid("the digest is missing: ?digest=…"))?;
    let digest = route::digest(digest)?;
    let sink = call.registry.store.take_upload(name.clone(), id).await?;
    let range = chunk_range(call, &name, &sink)?;
    let sink = receive(call, sink, range).await?;
    finish(call, &name, sink, digest).await
}

pub(super) async fn cancel(call: &Call, name: String, id: String) -> Result<Answer, Error> {
    let sink = call.registry.store.take_upload(name, id).await?;
    call.registry.store.run(move |store| store.uploads.remove(&sink)).await?;
    Ok(answer::status(StatusCode::NO_CONTENT))
}

async fn finish(call: &Call, name: &str, sink: Sink, digest: String) -> Result<Answer, Error> {
    let wanted = digest.clone();
    call.registry.store.run(move |store| store.finish_upload(sink, &wanted)).await?;
    Ok(created(&format!("/v2/{name}/blobs/{digest}"), &digest))
}

/// The chunk's place, which must be where the last one ended.
fn chunk_range(call: &Call, name: &str, sink: &Sink) -> Result<Option<ChunkRange>, Error> {
    let Some(text) = call.header(&CONTENT_RANGE) else { return Ok(None) };
    let there = sink.length();
    let refused = |error: Error| {
        let location = location_of(name, sink.id()).parse();
        let range = format!("0-{}", there.saturating_sub(1)).parse();
        let error = if let Ok(location) = location { error.with(LOCATION, location) } else { error };
        if let Ok(range) = range { error.with(RANGE, range) } else { error }
    };
    // A closing request without a last chunk may still say `0-0` or the like of it.
    if call.length() == Some(0) {
        return Ok(None);
    }
    let range = ChunkRange::parse(text).ok_or_else(|| {
        refused(Error::chunk_out_of_order(format!("Content-Range {text:?}: <first byte>-<last byte> is expected")))
    })?;
    if range.first != there {
        return Err(refused(Error::chunk_out_of_order(format!(
            "the chunk begins at {}, {there} bytes are there",
            range.first
        ))));
    }
    if let Some(length) = call.length()
        && length != range.length()
    {
        let text = format!("Content-Range {text} is {} bytes, Content-Length {length}", range.length());
        return Err(refused(Error::size_invalid(text)));
    }
    Ok(Some(range))
}

/// Takes the body to the end of the upload. When the connection breaks, what came stays, for the client to go on after it; when
/// the body is not what it was said to be, it goes.
async fn receive(call: &mut Call, sink: Sink, range: Option<ChunkRange>) -> Result<Sink, Error> {
    let before = sink.length();
    let mut writer = Writer::new(sink);
    let mut pace = Pace::new(call.registry.pace);
    let mut came = 0_u64;
    loop {
        match call.next_part(&mut pace).await {
            Ok(Some(part)) => {
                came += part.len() as u64;
                if range.is_some_and(|range| came > range.length()) {
                    break;
                }
                writer.add(part).await?;
            }
            Ok(None) => break,
            Err(e) => {
                writer.end().await?;
                return Err(e);
            }
        }
    }
    let mut sink = writer.end().await?;
    match range {
        Some(range) if came != range.length() => {
            let error =
                Error::size_invalid(format!("the chunk has {came} bytes or more, not {} as said", range.length()));
            call.registry.store.run(move |_| sink.truncate(before)).await?;
            Err(error)
        }
        _ => Ok(sink),
    }
}

/// Writes one batch while the next one is gathered.
struct Writer {
    batch: Vec<Bytes>,
    batch_bytes: usize,
    writing: tokio::task::JoinHandle<Result<Sink, Error>>,
}

impl Writer {
    fn new(sink: Sink) -> Writer {
        let writing = tokio::task::spawn_blocking(move || Ok(sink));
        Writer { batch: Vec::new(), batch_bytes: 0, writing }
    }

    async fn add(&mut self, part: Bytes) -> Result<(), Error> {
        self.batch_bytes += part.len();
        self.batch.push(part);
        if self.batch_bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let mut sink = (&mut self.writing).await.map_err(|e| Error::internal(e.to_string()))??;
        self.writing = tokio::task::spawn_blocking(move || sink.write(&batch).map(|()| sink));
        Ok(())
    }

    async fn end(mut self) -> Result<Sink, Error> {
        if !self.batch.is_empty() {
            self.flush().await?;
        }
        self.writing.await.map_err(|e| Error::internal(e.to_string()))?
    }
}
