//! Hijacked connections: HTTP up to the answer's head, then a raw duplex stream.

use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::answer::{self, Answer};
use super::linger::Lingering;

/// The raw stream to a client.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub(super) type Stream = Pin<Box<dyn Duplex>>;

/// Tells whether a client is still there. End of input does not: clients close that direction early (poll(2), unix(7)).
#[derive(Clone, Debug)]
pub(super) struct Presence {
    socket: Option<Arc<OwnedFd>>,
}

impl Presence {
    /// Watches over `socket` without keeping anything but a descriptor of it.
    pub(super) fn of(socket: &impl AsFd) -> Presence {
        Presence { socket: socket.as_fd().try_clone_to_owned().ok().map(Arc::new) }
    }

    /// Resolves when the client has read the answer's head. Clients of Python read it through a buffer that they throw away
    /// with all that came in the same moment: what comes first must wait for that.
    pub(super) async fn head_read(&self) {
        let Some(socket) = &self.socket else { return };
        let deadline = tokio::time::Instant::now() + HEAD_READ_MAX;
        while hoist_sys::socket::unread_by_peer(socket.as_fd()).is_ok_and(|bytes| bytes > 0)
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Resolves when the client has closed both directions.
    pub(super) async fn gone(self) {
        let Some(socket) = self.socket else { return std::future::pending().await };
        loop {
            // No readiness event tells a full from a half close apart, so it is asked now and then.
            tokio::time::sleep(LOOK_AGAIN).await;
            let mut entry = [PollFd::new(&*socket, PollFlags::empty())];
            let polled = poll(&mut entry, Some(&Timespec::default()));
            if polled.is_ok() && entry[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                return;
            }
        }
    }
}

const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A client that does not read is not waited for any longer.
const HEAD_READ_MAX: Duration = Duration::from_secs(2);

/// Answers with an upgrade (or, for clients that do not ask for one, with a streamed body) and hands the raw stream to
/// `talk` once the head is out.
pub(super) fn hijack<F, T>(mut request: Request<Incoming>, content_type: &'static str, talk: F) -> Answer
where
    F: FnOnce(Stream, Presence) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let presence = request.extensions_mut().remove::<Presence>().unwrap_or(Presence { socket: None });
    let wants_upgrade = request.headers().contains_key(UPGRADE);
    if !wants_upgrade {
        return plain(request, content_type, presence, talk);
    }
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // An error means that the client left before the head was out.
        if let Ok(stream) = upgraded.await {
            let stream = Lingering::new(Box::pin(TokioIo::new(stream)));
            talk(Box::pin(stream), presence).await;
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
fn plain<F, T>(request: Request<Incoming>, content_type: &'static str, presence: Presence, talk: F) -> Answer
where
    F: FnOnce(Stream, Presence) -> T + Send + 'static,
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
    tokio::spawn(talk(Box::pin(ours), presence));
    answer::stream(content_type, receiver)
}
