//! A raw HTTP/1.1 client for the engine's socket and for registries, which hides nothing: status, headers, body, hijack.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{patience, shapes};

/// Where requests go. One connection for each request.
#[derive(Clone)]
pub enum Api {
    Unix(PathBuf),
    Tcp(String),
}

enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    fn half_close(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Api {
    pub fn unix(socket: &Path) -> Self {
        Self::Unix(socket.to_path_buf())
    }

    fn connect(&self) -> io::Result<Connection> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience()))?;
                stream.set_write_timeout(Some(patience()))?;
                Ok(Connection::Unix(stream))
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(patience()))?;
                Ok(Connection::Tcp(stream))
            }
        }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn head(&self, path: &str) -> Reply {
        self.request("HEAD", path, &[], b"")
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path, &[], b"")
    }

    /// POST without a body.
    #[track_caller]
    pub fn post(&self, path: &str) -> Reply {
        self.request("POST", path, &[], b"")
    }

    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_request(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn try_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        let mut streaming = self.try_stream(method, path, headers, body)?;
        let mut bytes = Vec::new();
        if method != "HEAD" {
            streaming.body.read_to_end(&mut bytes)?;
        }
        shapes::check(method, path, streaming.status, &bytes);
        Ok(Reply {
            request: format!("{method} {path}"),
            status: streaming.status,
            headers: streaming.headers,
            body: bytes,
        })
    }

    /// Sends the request and returns when the headers of the answer are there; the body is read as it comes.
    #[track_caller]
    pub fn stream(&self, method: &str, path: &str, body: &[u8]) -> Streaming {
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("Content-Type", "application/json")] };
        self.try_stream(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_stream(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Streaming> {
        let mut connection = self.connect()?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n");
        if !body.is_empty() || method == "POST" || method == "PUT" || method == "PATCH" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        connection.write_all(head.as_bytes())?;
        // An engine that refuses a body early may close its side before all of it is written: its answer counts.
        let _ = connection.write_all(body);
        Streaming::receive(connection, method == "HEAD")
    }

    /// Asks for an upgrade to a raw stream (attach, exec start). The status is not checked.
    #[track_caller]
    pub fn hijack(&self, path: &str, body: &Value) -> Hijacked {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut connection = self.connect().unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(connection);
        let (status, headers) = receive_head(&mut reader).unwrap_or_else(|error| panic!("POST {path}: {error}"));
        Hijacked { status, headers, stream: reader }
    }

    /// A connection on which the test speaks for itself.
    #[track_caller]
    pub fn raw(&self, request: &[u8]) -> Hijacked {
        let mut connection = self.connect().unwrap();
        connection.write_all(request).unwrap();
        let mut reader = BufReader::new(connection);
        let (status, headers) = receive_head(&mut reader).unwrap_or((0, Vec::new()));
        Hijacked { status, headers, stream: reader }
    }
}

type Headers = Vec<(String, String)>;

fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn receive_head(reader: &mut impl BufRead) -> io::Result<(u16, Headers)> {
    let broken = |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {line:?}"));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| broken(&line))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(line))?;
        headers.push((name.to_string(), value.trim().to_string()));
    }
}

/// A whole answer.
pub struct Reply {
    pub request: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub fn status(self, expected: u16) -> Self {
        assert_eq!(self.status, expected, "status of {}: {}", self.request, self.text());
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {} no JSON ({error}): {}", self.request, self.status, self.text()))
    }

    /// The `message` of an error.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_string()
    }

    /// The lines of a stream of JSON objects.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

/// An answer whose body is still coming.
pub struct Streaming {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Box<dyn BufRead + Send>,
}

impl Streaming {
    fn receive(connection: Connection, is_head: bool) -> io::Result<Self> {
        let mut reader = BufReader::new(connection);
        let (status, headers) = receive_head(&mut reader)?;
        let length = find(&headers, "Content-Length").and_then(|length| length.parse().ok());
        let is_chunked = find(&headers, "Transfer-Encoding").is_some_and(|coding| coding.contains("chunked"));
        let body: Box<dyn BufRead + Send> = match (is_chunked, length) {
            _ if is_head || status == 204 || status == 304 => Box::new(io::empty()),
            (true, _) => Box::new(BufReader::new(Chunked { inner: reader, left: 0, has_ended: false })),
            (false, Some(length)) => Box::new(Exactly { inner: reader, left: length }),
            (false, None) => Box::new(reader),
        };
        Ok(Self { status, headers, body })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The next line, as JSON. None at the end.
    #[track_caller]
    pub fn next_json(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).expect("the stream") == 0 {
                return None;
            }
            if !line.trim().is_empty() {
                return Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
            }
        }
    }

    #[track_caller]
    pub fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes).expect("the rest of the stream");
        bytes
    }
}

/// A body of known length: an early end is an error.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: BufRead> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes of the body missing", self.left),
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Exactly<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let bytes = self.inner.fill_buf()?;
        Ok(&bytes[..bytes.len().min(left)])
    }

    fn consume(&mut self, count: usize) {
        self.left -= count as u64;
        self.inner.consume(count);
    }
}

/// A chunked body: an end without the last chunk is an error.
struct Chunked<R> {
    inner: R,
    left: usize,
    has_ended: bool,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.has_ended {
            let mut line = String::new();
            self.inner.read_line(&mut line)?;
            let size = line.trim().split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(size, 16)
                .map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, format!("no chunk size: {line:?}")))?;
            self.has_ended = self.left == 0;
        }
        if self.has_ended {
            return Ok(0);
        }
        let most = buffer.len().min(self.left);
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "in a chunk"));
        }
        self.left -= count;
        if self.left == 0 {
            self.inner.read_line(&mut String::new())?;
        }
        Ok(count)
    }
}

/// A connection after the headers of the answer: both directions are the test's.
pub struct Hijacked {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    stream: BufReader<Connection>,
}

impl Hijacked {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("writing to the hijacked stream");
    }

    /// Ends our direction; the other one must go on.
    pub fn half_close(&self) {
        self.stream.get_ref().half_close().expect("half-close");
    }

    /// Reads until the engine closes the connection.
    #[track_caller]
    pub fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("the rest of the hijacked stream");
        bytes
    }

    /// Reads until what came contains this; returns all that came.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&bytes).contains(text) {
            let count = self.stream.read(&mut buffer).expect("the hijacked stream");
            assert!(count > 0, "the stream ended before {text:?}: {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&buffer[..count]);
        }
        bytes
    }
}
