//! Listening, connections and their bounds, and the end of it all.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::deadline::Deadline;
use crate::flags::Settings;
use crate::handlers::{self, Registry};
use crate::store::Store;
use crate::tls::{self, Tls};
use crate::users::Users;

/// Connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// For each connection: itself, a blob, and some for the rest.
const FILES: u64 = 4096;
/// A handshake, the head of a request, and the next one on the same connection.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long nothing, or next to nothing, may come or go.
const PACE: Duration = Duration::from_secs(60);
/// What is under way when the server ends has so much time.
const END_TIME: Duration = Duration::from_secs(10);
/// Of the head of a request.
const HEAD_MAX_BYTES: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

/// Serves until a signal ends it.
pub(crate) async fn serve(settings: Settings) -> Result<(), String> {
    raise_file_limit();
    let users = settings.htpasswd.map(Users::open).transpose()?.map(Arc::new);
    let tls = settings.tls.map(|(certificate, key)| tls::open(certificate, key)).transpose()?.map(Arc::new);
    let store = Arc::new(Store::open(&settings.root, settings.keep_unreferenced)?);
    let address = settings.address;
    let listener = TcpListener::bind(address).await.map_err(|e| format!("listen on {address}: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("listen on {address}: {e}"))?;
    if !address.ip().is_loopback() && users.is_none() && !settings.policy.read_only {
        tracing::warn!(
            "anybody who reaches {address} can push and delete: --htpasswd names users, --read-only refuses"
        );
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!("registry in {} at {scheme}://{address}", settings.root.display());
    if !settings.policy.read_only {
        tokio::spawn(store.clone().keep_collecting());
    }
    let registry = Arc::new(Registry { store, users, policy: settings.policy, pace: PACE });
    let (end, ends) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &registry, tls.as_ref(), &mut connections, &ends) => {}
        name = stop_signal() => tracing::info!("{} received, ending", name?),
    }
    drop(listener);
    // Nobody listens where there are no connections.
    _ = end.send(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(END_TIME, all_ended).await.is_err() {
        tracing::warn!("requests that take longer are broken off");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    registry: &Arc<Registry>,
    tls: Option<&Arc<Tls>>,
    connections: &mut JoinSet<()>,
    ends: &watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                _ = stream.set_nodelay(true);
                connections.spawn(connection(stream, registry.clone(), tls.cloned(), ends.clone(), place));
            }
            Err(e) => {
                // Out of descriptors, most likely: waiting lets connections end.
                tracing::error!("cannot accept a connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    stream: TcpStream,
    registry: Arc<Registry>,
    tls: Option<Arc<Tls>>,
    ends: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let stream = Deadline::new(stream, PACE);
    let Some(tls) = tls else { return exchange(stream, registry, ends).await };
    let configuration = (*tls.get()).clone();
    let handshake = tokio_rustls::TlsAcceptor::from(configuration).accept(stream);
    match tokio::time::timeout(HEAD_TIME, handshake).await {
        Ok(Ok(stream)) => exchange(stream, registry, ends).await,
        // Scanners and clients that do not trust the certificate.
        Ok(Err(e)) => tracing::debug!("tls handshake: {e}"),
        Err(_) => tracing::debug!("tls handshake: too slow"),
    }
}

async fn exchange<S>(stream: S, registry: Arc<Registry>, mut ends: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let registry = registry.clone();
        async move { Ok::<_, Infallible>(handlers::respond(registry, request).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX);
    let mut exchange = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    // Errors here are clients that went away; there is nobody left to tell.
    tokio::select! {
        _ = exchange.as_mut() => {}
        _ = ends.changed() => {
            exchange.as_mut().graceful_shutdown();
            _ = exchange.await;
        }
    }
}

async fn stop_signal() -> Result<&'static str, String> {
    let watch = |kind| signal(kind).map_err(|e| format!("cannot watch for signals: {e}"));
    let (mut terminate, mut interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// As many as the bounds above may need; a hard limit below that shows when it is reached.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}
