//! Reading the head of an HTTP/1.1 answer. Bodies are `body`'s.

use std::io::Read;

use crate::{Error, Result, Stream};

/// Longest head we read: an engine that sends more is broken.
const HEAD_LIMIT: usize = 64 << 10;
const HEADER_LIMIT: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Reads one head; what came behind it is returned as the beginning of the body. `None`: the connection ended
/// before the first byte, so a request on a reused connection may be sent again.
pub(crate) fn read(stream: &mut Stream) -> Result<Option<(Head, Vec<u8>)>> {
    let mut bytes = Vec::with_capacity(4096);
    let mut chunk = [0; 8192];
    loop {
        let count = match stream.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset && bytes.is_empty() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            if bytes.is_empty() {
                return Ok(None);
            }
            return Err(Error::Protocol("the connection ended inside the answer's head".to_owned()));
        }
        bytes.extend_from_slice(&chunk[..count]);
        while let Some((head, length)) = parse(&bytes)? {
            bytes.drain(..length);
            // 1xx answers other than 101 announce a later one
            if head.status >= 200 || head.status == 101 {
                return Ok(Some((head, bytes)));
            }
        }
        if bytes.len() > HEAD_LIMIT {
            return Err(Error::Protocol("the answer's head is too long".to_owned()));
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            let headers = answer.headers.iter();
            let headers = headers.map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned())).collect();
            Ok(Some((Head { status: answer.code.unwrap_or_default(), headers }, length)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(Error::Protocol(error.to_string())),
    }
}
