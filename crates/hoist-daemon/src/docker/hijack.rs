//! Hijacked connections: HTTP up to the answer's head, then a raw duplex stream.

use std::pin::Pin;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::answer::{self, Answer};

/// The raw stream to a client.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub(super) type Stream = Pin<Box<dyn Duplex>>;

/// Answers with an upgrade (or, for clients that do not ask for one, with a streamed body) and hands the raw stream to
/// `talk` once the head is out.
pub(super) fn hijack<F, T>(request: Request<Incoming>, content_type: &'static str, talk: F) -> Answer
where
    F: FnOnce(Stream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let wants_upgrade = request.headers().contains_key(UPGRADE);
    if !wants_upgrade {
        return plain(request, content_type, talk);
    }
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // An error means that the client left before the head was out.
        if let Ok(stream) = upgraded.await {
            talk(Box::pin(TokioIo::new(stream))).await;
        }
    });
    let mut response = Response::new(answer::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    response
}

/// Request body in, response body out.
fn plain<F, T>(request: Request<Incoming>, content_type: &'static str, talk: F) -> Answer
where
    F: FnOnce(Stream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (mut output, mut input) = tokio::io::split(theirs);
    let (chunks, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref()
                && input.write_all(data).await.is_err()
            {
                return;
            }
        }
        _ = input.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            if chunks.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(talk(Box::pin(ours)));
    answer::stream(content_type, receiver)
}
