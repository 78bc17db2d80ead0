//! Building responses: JSON, errors, streams, and the headers that go on all of them.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hoist_api::error::{Error, ErrorBody, Kind};
use hoist_api::system::API_VERSION;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

/// A body that fails breaks the connection off: what came of it is not the whole.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Answer = Response<Body>;

/// No body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// A status without a body.
pub(super) fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// 204.
pub(super) fn no_content() -> Answer {
    status(StatusCode::NO_CONTENT)
}

/// Text with a content type.
pub(super) fn text(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()).map_err(never).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON with a newline at its end, as Go's encoder writes it.
pub(super) fn json<T: Serialize + ?Sized>(code: StatusCode, value: &T) -> Result<Answer, Error> {
    let mut bytes = serde_json::to_vec(value).map_err(|e| Error::internal(format!("cannot encode the answer: {e}")))?;
    bytes.push(b'\n');
    Ok(text(code, "application/json", bytes))
}

/// 200 with JSON.
pub(super) fn ok<T: Serialize + ?Sized>(value: &T) -> Result<Answer, Error> {
    json(StatusCode::OK, value)
}

/// The answer to a failed request.
pub(super) fn error(error: &Error) -> Answer {
    let code = StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.kind == Kind::NotModified {
        return status(code);
    }
    json(code, &ErrorBody { message: error.message.clone() }).unwrap_or_else(|_| status(code))
}

/// A body whose chunks arrive over a channel; headers go out at once.
pub(super) fn stream(content_type: &'static str, chunks: mpsc::Receiver<Bytes>) -> Answer {
    let stream = futures_util::stream::unfold(chunks, |mut chunks| async move {
        chunks.recv().await.map(|chunk| (Ok::<_, io::Error>(Frame::data(chunk)), chunks))
    });
    of_stream(content_type, stream.boxed())
}

/// The same for chunks of which one may be the failure that ends it.
pub(super) fn fallible_stream(content_type: &'static str, chunks: mpsc::Receiver<io::Result<Bytes>>) -> Answer {
    let stream = futures_util::stream::unfold(chunks, |mut chunks| async move {
        chunks.recv().await.map(|chunk| (chunk.map(Frame::data), chunks))
    });
    of_stream(content_type, stream.boxed())
}

fn of_stream(content_type: &'static str, stream: BoxStream<'static, io::Result<Frame<Bytes>>>) -> Answer {
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

/// Clients look for the name Docker here; the version is the one of `GET /version`.
const SERVER: &str = "Docker/28.5.2 (linux)";

/// Headers of every answer that is not an upgrade.
pub(super) fn common_headers(headers: &mut HeaderMap) {
    headers.insert("api-version", HeaderValue::from_static(API_VERSION));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert("server", HeaderValue::from_static(SERVER));
}
