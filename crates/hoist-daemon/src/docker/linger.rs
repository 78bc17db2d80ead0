//! The end of a hijacked exchange while the client is still sending. A socket that is closed with something unread in it
//! breaks the connection: the client gets `connection reset by peer` in place of the end of its output, and loses what it
//! would have asked for next. So the rest of its input is read, and thrown away, until it closes too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::hijack::Stream;

/// A client that goes on sending for longer is cut off.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// A stream that is not closed before its other side has closed, when it is dropped.
pub(super) struct Lingering(Option<Stream>);

impl Lingering {
    pub(super) fn new(stream: Stream) -> Lingering {
        Lingering(Some(stream))
    }

    /// There until it is dropped.
    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Lingering {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        // Without a runtime everything ends.
        if let (Some(mut stream), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if stream.shutdown().await.is_ok() {
                    let mut nowhere = tokio::io::sink();
                    let rest = tokio::io::copy(&mut stream, &mut nowhere);
                    _ = tokio::time::timeout(LINGER_MAX, rest).await;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_client_that_still_sends_gets_everything_and_the_end() {
        let (ours, mut client) = UnixStream::pair().unwrap();
        let mut stream = Lingering::new(Box::pin(ours));
        client.write_all(&[b'x'; 100_000]).await.unwrap();
        stream.write_all(b"output").await.unwrap();
        drop(stream);
        client.write_all(&[b'x'; 1_000_000]).await.unwrap();
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "output");
    }
}
