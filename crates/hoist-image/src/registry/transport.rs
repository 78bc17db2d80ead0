//! HTTP/1.1 to any origin: dialling, proxies, TLS, reuse of connections, deadlines. Knows nothing of registries.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::endpoint::{Origin, Trust};
use super::proxy::{Proxies, Proxy};
use super::resolve::Resolver;
use super::tls::{Tls, handshake_text};
use super::upload::Upstream;

const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A registry that fetches from elsewhere answers late.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(60);
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_CONNECTIONS_MAX: usize = 4;
const HEADER_BUFFER_BYTES: usize = 128 * 1024;

/// A registry that puts away a large upload answers later still.
const UPLOAD_ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

type Body = http_body_util::combinators::BoxBody<Bytes, io::Error>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a connection leads, and what it was made to trust.
type Way = (Origin, Arc<Trust>);

/// Connections of one pull.
#[derive(Default)]
pub(super) struct Transport {
    resolver: Resolver,
    tls: Tls,
    proxies: Proxies,
    idle: Mutex<HashMap<Way, Vec<SendRequest<Body>>>>,
}

/// A request, before it has a connection.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) origin: Origin,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Option<Bytes>,
    pub(super) trust: Arc<Trust>,
}

impl Transport {
    /// Certificates of registries are below `directory`, besides where Docker has them.
    pub(super) fn new(directory: &Path) -> Transport {
        Transport { proxies: Proxies::from_environment(), tls: Tls::new(directory), ..Transport::default() }
    }

    pub(super) async fn lookup(&self, host: &str) -> Result<Vec<SocketAddr>, String> {
        self.resolver.lookup(host, 0).await
    }

    /// Sends a request and waits for the head of the answer. The error is the reason only: callers name the URL.
    pub(super) async fn send(&self, outgoing: &Outgoing) -> Result<Response<Incoming>, String> {
        if let Some(mut sender) = self.take_idle(outgoing) {
            // An idle connection may have been closed under us: then the request was not processed and may be repeated.
            if let Ok(answer) = self.exchange(&mut sender, outgoing).await {
                self.keep(outgoing, sender);
                return Ok(answer);
            }
        }
        let mut sender = self.connect(outgoing).await?;
        let answer = self.exchange(&mut sender, outgoing).await?;
        self.keep(outgoing, sender);
        Ok(answer)
    }

    /// The same for a body that comes as a stream. Sent once, whatever becomes of it.
    pub(super) async fn send_stream(&self, outgoing: &Outgoing, body: Upstream) -> Result<Response<Incoming>, String> {
        let idle = self.take_idle(outgoing);
        let mut sender = match idle {
            Some(sender) => sender,
            None => self.connect(outgoing).await?,
        };
        let watch = body.watch();
        let request = self.request(outgoing)?.map(|_| body.boxed());
        let sending = sender.send_request(request);
        let answer = tokio::select! {
            answer = sending => answer,
            stalled = watch.stalled(UPLOAD_ANSWER_TIMEOUT) => return Err(stalled),
        };
        match answer {
            Err(e) if e.is_incomplete_message() => Err("EOF".to_owned()),
            Err(e) => Err(cause(&e)),
            Ok(answer) => {
                self.keep(outgoing, sender);
                Ok(answer)
            }
        }
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<Body>,
        outgoing: &Outgoing,
    ) -> Result<Response<Incoming>, String> {
        let request = self.request(outgoing)?;
        let patience = if outgoing.method == Method::PUT { UPLOAD_ANSWER_TIMEOUT } else { HEADERS_TIMEOUT };
        match timeout(patience, sender.send_request(request)).await {
            Err(_) => Err("net/http: timeout awaiting response headers".to_owned()),
            Ok(Err(e)) if e.is_incomplete_message() => Err("EOF".to_owned()),
            Ok(Err(e)) => Err(cause(&e)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    fn request(&self, outgoing: &Outgoing) -> Result<Request<Body>, String> {
        let origin = &outgoing.origin;
        let proxy = self.proxies.for_origin(origin).map_err(|e| e.to_string())?;
        // A plain-HTTP proxy is told the whole URL; a tunnel is the origin itself.
        let through_proxy = proxy.filter(|_| !origin.secure);
        let target = match through_proxy {
            Some(_) => format!("{origin}{}", outgoing.path),
            None => outgoing.path.clone(),
        };
        let body = match &outgoing.body {
            Some(bytes) => http_body_util::Full::new(bytes.clone()).map_err(|never| match never {}).boxed(),
            None => Empty::new().map_err(|never| match never {}).boxed(),
        };
        let mut request = Request::builder()
            .method(outgoing.method.clone())
            .uri(target)
            .header(HOST, origin.authority())
            .header(USER_AGENT, concat!("hoist/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|e| e.to_string())?;
        if let Some(authorization) = through_proxy_authorization(through_proxy.as_ref()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, secret(&authorization)?);
        }
        for (name, value) in &outgoing.headers {
            let value = if name == AUTHORIZATION { secret(value)? } else { plain(value)? };
            request.headers_mut().append(name.clone(), value);
        }
        Ok(request)
    }

    async fn connect(&self, outgoing: &Outgoing) -> Result<SendRequest<Body>, String> {
        let origin = &outgoing.origin;
        let proxy = self.proxies.for_origin(origin).map_err(|e| e.to_string())?;
        let stream: Box<dyn Stream> = match &proxy {
            None => Box::new(self.dial(origin).await?),
            Some(proxy) => {
                let stream = self.dial(&proxy.origin).await.map_err(|e| format!("proxyconnect tcp: {e}"))?;
                if origin.secure { Box::new(tunnel(stream, proxy, origin).await?) } else { Box::new(stream) }
            }
        };
        let stream = if origin.secure { self.handshake(stream, origin, &outgoing.trust).await? } else { stream };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEADER_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| cause(&e))?;
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "registry connection ended");
            }
        });
        Ok(sender)
    }

    async fn dial(&self, origin: &Origin) -> Result<TcpStream, String> {
        let addresses = self.resolver.lookup(&origin.host, origin.port).await.map_err(|e| format!("dial tcp: {e}"))?;
        let mut last = format!("dial tcp: lookup {}: no such host", origin.host);
        for address in addresses {
            match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Requests are small and wait for their answers.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(e)) => last = format!("dial tcp {address}: connect: {}", go_text(&e)),
                Err(_) => last = format!("dial tcp {address}: i/o timeout"),
            }
        }
        Err(last)
    }

    async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        origin: &Origin,
        trust: &Trust,
    ) -> Result<Box<dyn Stream>, String> {
        let config = self.tls.config(&origin.authority(), trust)?;
        let name = ServerName::try_from(origin.host.clone()).map_err(|e| format!("tls: {}: {e}", origin.host))?;
        let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        match timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(e)) => Err(handshake_text(&e, &origin.host)),
            Err(_) => Err("net/http: TLS handshake timeout".to_owned()),
        }
    }

    fn take_idle(&self, outgoing: &Outgoing) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(&(outgoing.origin.clone(), outgoing.trust.clone()))?;
        connections.retain(|sender| !sender.is_closed());
        let ready = connections.iter().position(SendRequest::is_ready)?;
        Some(connections.swap_remove(ready))
    }

    /// Connections come back while their answer is still being read; they are ready again once it was.
    fn keep(&self, outgoing: &Outgoing, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry((outgoing.origin.clone(), outgoing.trust.clone())).or_default();
        connections.retain(|sender| !sender.is_closed());
        if connections.len() < IDLE_CONNECTIONS_MAX {
            connections.push(sender);
        }
    }
}

fn through_proxy_authorization(proxy: Option<&Proxy>) -> Option<String> {
    proxy.and_then(|proxy| proxy.authorization.clone())
}

/// Asks a proxy for a way through (RFC 9110 section 9.3.6).
async fn tunnel(
    stream: TcpStream,
    proxy: &Proxy,
    origin: &Origin,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, String> {
    let fail = |e: String| format!("proxyconnect tcp: {e}");
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|e| fail(cause(&e)))?;
    tokio::spawn(connection.with_upgrades());
    let target = format!("{}:{}", bracketed(&origin.host), origin.port);
    let mut request =
        Request::connect(&target).header(HOST, &target).body(Empty::new()).map_err(|e| fail(e.to_string()))?;
    if let Some(authorization) = &proxy.authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, secret(authorization)?);
    }
    let answer = timeout(HEADERS_TIMEOUT, sender.send_request(request)).await;
    let answer = answer.map_err(|_| fail("timeout".to_owned()))?.map_err(|e| fail(cause(&e)))?;
    if answer.status() != StatusCode::OK {
        return Err(fail(answer.status().to_string()));
    }
    hyper::upgrade::on(answer).await.map(TokioIo::new).map_err(|e| fail(cause(&e)))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn plain(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| "invalid header value".to_owned())
}

fn secret(value: &str) -> Result<HeaderValue, String> {
    let mut value = plain(value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The next piece of a body; `None` at its end. A server that goes silent is an error.
pub(super) async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, String> {
    loop {
        match timeout(BODY_IDLE_TIMEOUT, body.frame()).await {
            Err(_) => return Err(format!("no data for {} seconds", BODY_IDLE_TIMEOUT.as_secs())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(e))) if e.is_incomplete_message() => return Err("unexpected EOF".to_owned()),
            Ok(Some(Err(e))) => return Err(cause(&e)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole small body, bounded in size and time.
pub(super) async fn document(body: Incoming, limit: u64) -> Result<Vec<u8>, String> {
    let read = async {
        let mut body = body;
        let mut bytes = Vec::new();
        while let Some(chunk) = next_chunk(&mut body).await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(format!("the answer is larger than {limit} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    timeout(DOCUMENT_TIMEOUT, read).await.unwrap_or_else(|_| Err("the answer took too long".to_owned()))
}

/// The innermost reason, which says most.
fn cause(error: &hyper::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.downcast_ref::<io::Error>().map_or_else(|| deepest.to_string(), go_text)
}

/// strerror(3)'s text in lower case, as Go prints it.
fn go_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        _ => error.to_string(),
    }
}
