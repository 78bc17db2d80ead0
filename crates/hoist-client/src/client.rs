//! Requests to one engine: version prefix, keep-alive, uploads, and connections taken over after an upgrade.
//!
//! The API version is negotiated without a request of its own: the newest we speak is tried, and the engine's
//! answer "client version … is too new. Maximum supported API version is …" names the one to use from then on.

use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    rc::Rc,
    time::Instant,
};

use serde::Serialize;

use crate::{
    Endpoint, Error, Response, Result, Stream,
    body::Idle,
    head::{self, Head},
    query,
};

const NEWEST_VERSION: (u32, u32) = (1, 53);

/// The body of a request.
#[derive(Default)]
pub enum Upload<'a> {
    #[default]
    None,
    Json(Vec<u8>),
    /// Sent chunked, as it is read.
    Stream {
        content_type: &'static str,
        reader: &'a mut dyn Read,
    },
}

/// One request below the version prefix.
#[derive(Default)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: String,
    pub query: Vec<(&'a str, String)>,
    pub headers: Vec<(&'a str, String)>,
    pub upload: Upload<'a>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), ..Self::default() }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    #[must_use]
    pub fn query(mut self, key: &'a str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// Adds `key=1` if `on`.
    #[must_use]
    pub fn switch(self, key: &'a str, on: bool) -> Self {
        if on { self.query(key, "1") } else { self }
    }

    #[must_use]
    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Result<Self> {
        self.upload = Upload::Json(serde_json::to_vec(body)?);
        Ok(self)
    }

    #[must_use]
    pub fn stream(mut self, content_type: &'static str, reader: &'a mut dyn Read) -> Self {
        self.upload = Upload::Stream { content_type, reader };
        self
    }

    fn can_repeat(&self) -> bool {
        !matches!(self.upload, Upload::Stream { .. })
    }
}

/// A connection that belongs to its user after an upgrade; `early` came right behind the answer's head.
#[derive(Debug)]
pub struct Hijacked {
    pub stream: Stream,
    pub early: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Hijacked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    version: Cell<(u32, u32)>,
    /// The caller fixed the version: do not lower it.
    pinned: bool,
    user_agent: String,
    headers: Vec<(String, String)>,
    idle: Idle,
    trace: Option<fn(&str)>,
}

impl Client {
    pub fn new(endpoint: Endpoint, user_agent: impl Into<String>) -> Self {
        Self {
            endpoint,
            version: Cell::new(NEWEST_VERSION),
            pinned: false,
            user_agent: user_agent.into(),
            headers: Vec::new(),
            idle: Rc::new(RefCell::new(None)),
            trace: None,
        }
    }

    /// Tells `trace` of every request and its answer.
    pub fn set_trace(&mut self, trace: fn(&str)) {
        self.trace = Some(trace);
    }

    /// Uses exactly this API version.
    pub fn pin_version(&mut self, version: &str) -> Result<()> {
        let parsed = parse_version(version.trim_start_matches('v'));
        self.version.set(parsed.ok_or_else(|| Error::Endpoint(format!("invalid API version {version:?}")))?);
        self.pinned = true;
        Ok(())
    }

    /// Sends the next request over a connection that is already open.
    pub fn use_connection(&self, stream: Stream) {
        self.idle.replace(Some(stream));
    }

    /// Headers for every request.
    pub fn add_header(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.headers.push((name.into(), value.into()));
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The version in use, as far as it is negotiated by now.
    pub fn version(&self) -> String {
        let (major, minor) = self.version.get();
        format!("{major}.{minor}")
    }

    pub fn newest_version() -> String {
        format!("{}.{}", NEWEST_VERSION.0, NEWEST_VERSION.1)
    }

    /// Is the version in use at least `1.minor`?
    pub fn speaks(&self, minor: u32) -> bool {
        self.version.get() >= (1, minor)
    }

    /// Asks the engine for its version now, for requests whose form depends on it.
    pub fn negotiate(&self) -> Result<()> {
        if self.pinned {
            return Ok(());
        }
        let mut ping = Request::new("HEAD", "/_ping");
        let (stream, head, early) = self.exchange(&mut ping, "/_ping", false)?;
        let answer = Response::new(head, early, stream, &self.idle, true);
        if let Some(version) = answer.header("api-version").and_then(parse_version) {
            self.version.set(version.min(NEWEST_VERSION));
        }
        Ok(())
    }

    /// Sends a request and reads the head of its answer, whatever its status.
    pub fn send(&self, request: Request<'_>) -> Result<Response> {
        let is_head = request.method == "HEAD";
        let (stream, head, early) = self.dispatch(request, false)?;
        Ok(Response::new(head, early, stream, &self.idle, is_head))
    }

    /// Sends a request whose answer must not be an error.
    pub fn call(&self, request: Request<'_>) -> Result<Response> {
        self.send(request)?.checked()
    }

    /// Sends a request that takes the connection over (answer 101, or 200 from old engines).
    pub fn hijack(&self, request: Request<'_>) -> Result<Hijacked> {
        let (stream, head, early) = self.dispatch(request, true)?;
        if head.status != 101 && head.status != 200 {
            let never_reused = Rc::new(RefCell::new(None));
            Response::new(head, early, stream, &never_reused, false).checked()?;
            return Err(Error::Protocol("unable to upgrade to tcp".to_owned()));
        }
        Ok(Hijacked { stream, early, headers: head.headers })
    }

    fn dispatch(&self, mut request: Request<'_>, upgrade: bool) -> Result<(Stream, Head, Vec<u8>)> {
        if !request.can_repeat() && self.version.get() == NEWEST_VERSION {
            self.negotiate()?;
        }
        let (major, minor) = self.version.get();
        let path = format!("/v{major}.{minor}{}", request.path);
        let (stream, head, early) = self.exchange(&mut request, &path, upgrade)?;
        if head.status != 400 || self.pinned {
            return Ok((stream, head, early));
        }
        let answer = Response::new(head, early, stream, &self.idle, false);
        let Err(error) = answer.checked() else { unreachable!("status 400 is an error") };
        match supported_version(&error) {
            Some(version) if version < (major, minor) && request.can_repeat() => {
                self.version.set(version);
                let path = format!("/v{}.{}{}", version.0, version.1, request.path);
                self.exchange(&mut request, &path, upgrade)
            }
            _ => Err(error),
        }
    }

    /// One round: writes the request, reads the head. A kept connection that the engine has closed meanwhile is
    /// replaced by a new one, once.
    fn exchange(&self, request: &mut Request<'_>, path: &str, upgrade: bool) -> Result<(Stream, Head, Vec<u8>)> {
        let begin = Instant::now();
        let answer = self.send_and_read_head(request, path, upgrade);
        if let Some(trace) = self.trace {
            let outcome = match &answer {
                Ok((_, head, _)) => head.status.to_string(),
                Err(error) => error.to_string(),
            };
            trace(&format!("{} {path}: {outcome} after {:.1} ms", request.method, begin.elapsed().as_secs_f64() * 1e3));
        }
        answer
    }

    fn send_and_read_head(
        &self,
        request: &mut Request<'_>,
        path: &str,
        upgrade: bool,
    ) -> Result<(Stream, Head, Vec<u8>)> {
        let head = self.head_of(request, path, upgrade);
        let kept = self.idle.borrow_mut().take().filter(|stream| !stream.is_stale());
        if let Some(mut stream) = kept
            && request.can_repeat()
            && write_request(&mut stream, &head, &mut request.upload).is_ok()
            && let Some((head, early)) = head::read(&mut stream)?
        {
            return Ok((stream, head, early));
        }
        let mut stream = self.endpoint.connect()?;
        let written = match write_request(&mut stream, &head, &mut request.upload) {
            // The connection goes with the stream: what was sent must not be taken for the whole.
            Err(Unsent::Unread(error)) => return Err(Error::Upload(error)),
            Err(Unsent::Broken(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        // an engine may refuse before it has read everything: its answer tells more than our failed write
        match (head::read(&mut stream), written) {
            (Ok(Some((head, early))), _) => Ok((stream, head, early)),
            (_, Err(error)) => Err(error.into()),
            (Err(error), _) => Err(error),
            (Ok(None), _) => Err(Error::Protocol("the connection ended without an answer (EOF)".to_owned())),
        }
    }

    fn head_of(&self, request: &Request<'_>, path: &str, upgrade: bool) -> String {
        let query = query::encode(&request.query);
        let mut head = format!(
            "{} {path}{query} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\n",
            request.method,
            self.endpoint.host_header(),
            self.user_agent
        );
        let mut add = |name: &str, value: &str| {
            if !value.contains(['\r', '\n']) {
                head.extend([name, ": ", value, "\r\n"]);
            }
        };
        for (name, value) in &self.headers {
            add(name, value);
        }
        for (name, value) in &request.headers {
            add(name, value);
        }
        if upgrade {
            add("Connection", "Upgrade");
            add("Upgrade", "tcp");
        }
        match &request.upload {
            Upload::None if request.method == "POST" => add("Content-Length", "0"),
            Upload::None => {}
            Upload::Json(bytes) => {
                add("Content-Type", "application/json");
                add("Content-Length", &bytes.len().to_string());
            }
            Upload::Stream { content_type, .. } => {
                add("Content-Type", content_type);
                add("Transfer-Encoding", "chunked");
            }
        }
        head.push_str("\r\n");
        head
    }
}

/// Why a request did not get to the engine as a whole.
enum Unsent {
    /// The connection broke.
    Broken(std::io::Error),
    /// What was to be sent could not be read.
    Unread(std::io::Error),
}

impl From<std::io::Error> for Unsent {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error)
    }
}

fn write_request(stream: &mut Stream, head: &str, upload: &mut Upload<'_>) -> std::result::Result<(), Unsent> {
    match upload {
        Upload::None => stream.write_all(head.as_bytes())?,
        Upload::Json(bytes) => {
            let mut whole = Vec::with_capacity(head.len() + bytes.len());
            whole.extend_from_slice(head.as_bytes());
            whole.extend_from_slice(bytes);
            stream.write_all(&whole)?;
        }
        Upload::Stream { reader, .. } => {
            stream.write_all(head.as_bytes())?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = match reader.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    other => other.map_err(Unsent::Unread)?,
                };
                if count == 0 {
                    stream.write_all(b"0\r\n\r\n")?;
                    break;
                }
                stream.write_all(format!("{count:x}\r\n").as_bytes())?;
                stream.write_all(&buffer[..count])?;
                stream.write_all(b"\r\n")?;
            }
        }
    }
    Ok(())
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The engine's newest version, from its refusal of a newer one.
fn supported_version(error: &Error) -> Option<(u32, u32)> {
    let Error::Api { message, .. } = error else { return None };
    if !message.contains("is too new") {
        return None;
    }
    parse_version(message.rsplit_once("API version is ")?.1.trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
