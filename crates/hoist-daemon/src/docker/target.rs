//! Request lines as people type them: `curl 'http://d/containers/json?filters={"name":["x"]}'` sends quotes that belong
//! percent-encoded (RFC 3986 section 2), which Go's server lets pass and ours would answer with a bare 400.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose first line is encoded as it should be; of further requests on it their programs must see to that.
pub(super) struct Encoding<S> {
    stream: S,
    /// The first line was seen to its end.
    past_line: bool,
    /// Encoded and not read yet, from here on.
    pending: Vec<u8>,
    from: usize,
}

impl<S> Encoding<S> {
    pub(super) fn new(stream: S) -> Encoding<S> {
        Encoding { stream, past_line: false, pending: Vec::new(), from: 0 }
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let left = &self.pending[self.from..];
        let given = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..given]);
        self.from += given;
        if self.from == self.pending.len() {
            (self.pending, self.from) = (Vec::new(), 0);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Encoding<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.pending.is_empty() {
            this.give(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.past_line || !matches!(polled, Poll::Ready(Ok(()))) {
            return polled;
        }
        let read = &buffer.filled()[before..];
        let end = read.iter().position(|&byte| byte == b'\n');
        this.past_line = end.is_some();
        let (line, rest) = read.split_at(end.unwrap_or(read.len()));
        if line.iter().any(|&byte| is_encoded(byte)) {
            this.pending = encode(line);
            this.pending.extend_from_slice(rest);
            buffer.set_filled(before);
            this.give(buffer);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Encoding<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

fn is_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|' | 0x80..)
}

fn encode(line: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(line.len() * 2);
    for &byte in line {
        if is_encoded(byte) {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            encoded.push(byte);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What comes out when these pieces come in, one read each, into a buffer of so many bytes.
    async fn through(pieces: &[&str], buffer_bytes: usize) -> String {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut server = Encoding::new(server);
        let mut whole = Vec::new();
        for piece in pieces {
            client.write_all(piece.as_bytes()).await.unwrap();
            let mut buffer = vec![0; buffer_bytes];
            let length = server.read(&mut buffer).await.unwrap();
            whole.extend_from_slice(&buffer[..length]);
        }
        drop(client);
        server.read_to_end(&mut whole).await.unwrap();
        String::from_utf8(whole).unwrap()
    }

    #[tokio::test]
    async fn the_first_line_is_encoded_and_nothing_else() {
        let typed = "GET /x?filters={\"name\":[\"ä\"]} HTTP/1.1\r\nA: \"b\"\r\n\r\n{\"c\":\"d\"}";
        let good = "GET /x?filters={%22name%22:[%22%C3%A4%22]} HTTP/1.1\r\nA: \"b\"\r\n\r\n{\"c\":\"d\"}";
        for buffer_bytes in [1, 7, 100, 1000] {
            assert_eq!(through(&[typed], buffer_bytes).await, good);
            assert_eq!(through(&[&typed[..20], &typed[20..40], &typed[40..]], buffer_bytes).await, good);
        }
        let plain = "POST /x?a=%22b HTTP/1.1\r\n\r\n\"";
        assert_eq!(through(&[plain], 1000).await, plain);
    }
}
