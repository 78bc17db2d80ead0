//! Building answers: documents, errors, contents of files, and the headers that go on all of them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::error::Error;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Answer = Response<Body>;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Read at a time, and held for each download.
const PART_BYTES: usize = 128 * 1024;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A status without a body.
pub(crate) fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(empty());
    *answer.status_mut() = status;
    answer
}

/// Bytes with a content type.
pub(crate) fn bytes(content_type: &str, bytes: impl Into<Bytes>) -> Answer {
    let bytes = bytes.into();
    let length = bytes.len() as u64;
    let mut answer = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    set(&mut answer, CONTENT_TYPE, content_type);
    set(&mut answer, CONTENT_LENGTH, &length.to_string());
    answer
}

/// 200 with JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<Answer, Error> {
    json_as("application/json", value)
}

/// The same under another name.
pub(crate) fn json_as<T: Serialize + ?Sized>(content_type: &str, value: &T) -> Result<Answer, Error> {
    let document = serde_json::to_vec(value).map_err(|e| Error::internal(format!("cannot encode the answer: {e}")))?;
    Ok(bytes(content_type, document))
}

#[derive(Serialize)]
struct Errors<'a> {
    errors: [ErrorEntry<'a>; 1],
}

#[derive(Serialize)]
struct ErrorEntry<'a> {
    code: &'a str,
    message: &'a str,
}

/// The answer to a failed request; what is wrong here goes to the log.
pub(crate) fn error(error: Error) -> Answer {
    if let Some(cause) = &error.cause {
        tracing::error!("{cause}");
    }
    let document = Errors { errors: [ErrorEntry { code: error.code, message: &error.message }] };
    let mut answer = json(&document).unwrap_or_else(|_| status(error.status));
    *answer.status_mut() = error.status;
    for (name, value) in error.headers {
        answer.headers_mut().append(name, value);
    }
    answer
}

/// Sets a header; a value that cannot be one is left out (ours all can).
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// Headers of every answer.
pub(crate) fn common_headers(answer: &mut Answer) {
    set(answer, API_VERSION, "registry/2.0");
    set(answer, HeaderName::from_static("x-content-type-options"), "nosniff");
}

/// So many bytes of a file from an offset on, read as they are sent.
pub(crate) fn part_of_file(mut file: File, offset: u64, length: u64) -> io::Result<Body> {
    if offset > 0 {
        file.seek(SeekFrom::Start(offset))?;
    }
    let parts = stream::unfold(Some((file, length)), |state| async move {
        let (file, left) = state.filter(|(_, left)| *left > 0)?;
        // A worker thread must not wait for a disk.
        match tokio::task::spawn_blocking(move || read_part(file, left)).await {
            Ok(Ok((part, file))) => {
                let left = left.saturating_sub(part.len() as u64);
                Some((Ok(Frame::data(part)), Some((file, left))))
            }
            Ok(Err(e)) => Some((Err(e), None)),
            Err(e) => Some((Err(io::Error::other(e)), None)),
        }
    });
    Ok(StreamBody::new(parts).boxed_unsync())
}

fn read_part(mut file: File, left: u64) -> io::Result<(Bytes, File)> {
    let size = usize::try_from(left).unwrap_or(usize::MAX).min(PART_BYTES);
    let mut part = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match file.read(&mut part[filled..])? {
            // The length was promised: breaking off is how the client learns that it is not kept.
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its record says")),
            count => filled += count,
        }
    }
    Ok((part.into(), file))
}
