//! The body of an answer as a reader: by length, chunked, or up to the end of the connection.
//! A body read to its end hands its connection back for the next request.

use std::{
    cell::RefCell,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result, Stream, head::Head};

/// Most we take of a body that must be held whole.
const WHOLE_LIMIT: u64 = 512 << 20;
/// Most we take of an error's body.
const ERROR_LIMIT: u64 = 1 << 20;

pub(crate) type Idle = Rc<RefCell<Option<Stream>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    /// Bytes left of the current chunk; `None` before its size line.
    Chunked(Option<u64>),
    UntilEnd,
    Done,
}

/// An answer's head with its body still to be read.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Body,
}

#[derive(Debug)]
pub struct Body {
    stream: Option<Stream>,
    buffer: Vec<u8>,
    at: usize,
    framing: Framing,
    idle: Option<Idle>,
}

impl Response {
    pub(crate) fn new(head: Head, buffer: Vec<u8>, stream: Stream, idle: &Idle, is_head_request: bool) -> Self {
        let keep = !head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let chunked = head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = head.header("content-length").and_then(|value| value.trim().parse().ok());
        let framing = match length {
            _ if is_head_request || matches!(head.status, 204 | 304) => Framing::Length(0),
            _ if chunked => Framing::Chunked(None),
            Some(length) => Framing::Length(length),
            None => Framing::UntilEnd,
        };
        let idle = (keep && framing != Framing::UntilEnd).then(|| Rc::clone(idle));
        let mut body = Body { stream: Some(stream), buffer, at: 0, framing, idle };
        if framing == Framing::Length(0) {
            body.finish();
        }
        Self { status: head.status, headers: head.headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Passes answers below 400 on; the others become [`Error::Api`] with the engine's text.
    pub fn checked(mut self) -> Result<Self> {
        if self.status < 400 {
            return Ok(self);
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.body).take(ERROR_LIMIT).read_to_end(&mut bytes)?;
        let container = self.header("x-hoist-container").map(str::to_owned);
        Err(Error::Api { status: self.status, message: error_text(self.status, &bytes), container })
    }

    pub fn bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.body).take(WHOLE_LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes()?)?)
    }

    /// The objects of a progress or event stream, each as soon as it has arrived.
    pub fn json_stream(self) -> impl Iterator<Item = Result<Value>> {
        serde_json::Deserializer::from_reader(self.body).into_iter::<Value>().map(|item| {
            item.map_err(|error| match error.io_error_kind() {
                Some(_) => Error::Io(error.into()),
                None => Error::Json(error),
            })
        })
    }
}

/// The text of an error answer: `{"message": …}`, else the body as it is, else the status.
fn error_text(status: u16, bytes: &[u8]) -> String {
    if let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes)
        && let Some(message) = object.get("message").and_then(Value::as_str)
    {
        return message.trim().to_owned();
    }
    match String::from_utf8_lossy(bytes).trim() {
        "" => format!("request returned status {status} without a message"),
        text => text.to_owned(),
    }
}

impl Body {
    /// The connection to wait on, unless something has arrived already.
    pub fn waits_on(&self) -> Option<BorrowedFd<'_>> {
        match (&self.stream, self.at < self.buffer.len()) {
            (Some(stream), false) => Some(stream.as_fd()),
            _ => None,
        }
    }

    fn finish(&mut self) {
        self.framing = Framing::Done;
        let leftover = self.at < self.buffer.len();
        if let (Some(idle), Some(stream), false) = (self.idle.take(), self.stream.take(), leftover) {
            idle.replace(Some(stream));
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        self.buffer.resize(32 << 10, 0);
        self.at = 0;
        let read = loop {
            match stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        read
    }

    /// At most `limit` bytes of what has arrived, waiting for some if nothing has.
    fn pull(&mut self, out: &mut [u8], limit: u64) -> io::Result<usize> {
        if self.at == self.buffer.len() && self.fill()? == 0 {
            return Ok(0);
        }
        let available = &self.buffer[self.at..];
        let count = available.len().min(out.len()).min(usize::try_from(limit).unwrap_or(usize::MAX));
        out[..count].copy_from_slice(&available[..count]);
        self.at += count;
        Ok(count)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            if self.pull(&mut byte, 1)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match byte[0] {
                b'\n' => return Ok(line),
                b'\r' => {}
                other if line.len() < 4096 => line.push(other),
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "overlong line in a chunked body")),
            }
        }
    }

    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = self.line()?;
        let text = String::from_utf8_lossy(&line);
        let size = text.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("bad chunk size {size:?}")))
    }
}

impl Read for Body {
    /// An answer that broke off or makes no sense has ended: what comes after is not its body.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.read_framed(out);
        if read.as_ref().is_err_and(|e| matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)) {
            self.framing = Framing::Done;
            self.stream = None;
        }
        read
    }
}

impl Body {
    fn read_framed(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.framing {
                Framing::Done => return Ok(0),
                Framing::UntilEnd => {
                    let count = self.pull(out, u64::MAX)?;
                    if count == 0 {
                        self.finish();
                    }
                    return Ok(count);
                }
                Framing::Length(left) => {
                    let count = self.pull(out, left)?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.framing = Framing::Length(left - count as u64);
                    if left == count as u64 {
                        self.finish();
                    }
                    return Ok(count);
                }
                Framing::Chunked(None) => {
                    let size = self.next_chunk()?;
                    if size == 0 {
                        while !self.line()?.is_empty() {}
                        self.finish();
                        return Ok(0);
                    }
                    self.framing = Framing::Chunked(Some(size));
                }
                Framing::Chunked(Some(left)) => {
                    let count = self.pull(out, left)?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let left = left - count as u64;
                    self.framing = Framing::Chunked(Some(left));
                    if left == 0 {
                        self.line()?;
                        self.framing = Framing::Chunked(None);
                    }
                    return Ok(count);
                }
            }
        }
    }
}
