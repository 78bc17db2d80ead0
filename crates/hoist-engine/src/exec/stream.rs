//! The streams of one exec, pumped to and from a client.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::Streams;
use super::registry::ExecState;
use crate::error::{Error, Result};
use crate::stream::{DetachKeys, frame_header};

const CHUNK_BYTES: usize = 32 * 1024;
/// How long the output of an exec is read after its end while others (a background child) hold it open; as long as Docker.
const LINGER: Duration = Duration::from_secs(2);
/// What is taken after that: all that can be in a pipe by then (pipe(7)), and not what is still written.
const MAX_LEFT_BYTES: usize = 1024 * 1024;

/// Pty masters of running execs, for resizing.
static MASTERS: Mutex<Option<HashMap<String, Weak<AsyncFd<OwnedFd>>>>> = Mutex::new(None);

/// The engine's ends of an exec's streams.
#[derive(Debug)]
pub struct ExecStream {
    stdin: Option<tokio::net::unix::pipe::Sender>,
    stdout: Option<tokio::net::unix::pipe::Receiver>,
    stderr: Option<tokio::net::unix::pipe::Receiver>,
    master: Option<Arc<AsyncFd<OwnedFd>>>,
    state: watch::Receiver<ExecState>,
}

impl Streams {
    pub(super) async fn into_stream(self, state: watch::Receiver<ExecState>) -> Result<ExecStream> {
        let failed = |e: io::Error| Error::internal(format!("cannot use the exec's streams: {e}"));
        let nonblocking = |fd: OwnedFd| -> io::Result<OwnedFd> {
            rustix::io::ioctl_fionbio(&fd, true)?;
            Ok(fd)
        };
        let receiver = |fd: OwnedFd| -> Result<_> {
            tokio::net::unix::pipe::Receiver::from_owned_fd(nonblocking(fd).map_err(failed)?).map_err(failed)
        };
        let master = match self.master {
            Some(socket) => {
                let received = tokio::task::spawn_blocking(move || receive_master(&socket))
                    .await
                    .map_err(|e| Error::internal(e.to_string()))?;
                let fd = nonblocking(received.map_err(failed)?).map_err(failed)?;
                Some(Arc::new(crate::stream::watch(fd).map_err(failed)?))
            }
            None => None,
        };
        let stdin = self
            .stdin
            .map(|fd| tokio::net::unix::pipe::Sender::from_owned_fd(nonblocking(fd).map_err(failed)?).map_err(failed))
            .transpose()?;
        Ok(ExecStream {
            stdin,
            stdout: self.stdout.map(receiver).transpose()?,
            stderr: self.stderr.map(receiver).transpose()?,
            master,
            state,
        })
    }
}

/// Waits (the exec is known to have started: it is there or never comes) for the master end.
fn receive_master(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    rustix::net::recvmsg(socket, &mut [io::IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the pty did not arrive"))
}

/// Sets the size of an exec's pty.
pub(super) fn resize(id: &str, rows: u16, columns: u16) -> Result<()> {
    let masters = MASTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let master = masters.as_ref().and_then(|m| m.get(id)).and_then(Weak::upgrade);
    let Some(master) = master else {
        return Err(Error::conflict(format!("exec process {id} has no terminal")));
    };
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master.get_ref().as_fd(), size)
        .map_err(|e| Error::internal(format!("cannot resize the terminal of exec {id}: {e}")))
}

impl ExecStream {
    /// Makes the pty known for resizing by the exec's id.
    pub fn named(self, id: &str) -> ExecStream {
        if let Some(master) = &self.master {
            let mut masters = MASTERS.lock().unwrap_or_else(PoisonError::into_inner);
            let map = masters.get_or_insert_default();
            map.retain(|_, m| m.strong_count() > 0);
            map.insert(id.to_owned(), Arc::downgrade(master));
        }
        self
    }

    /// Copies between the exec and a client until the exec has ended and its output is delivered, or the client typed the
    /// detach keys. A client that goes away (`gone`) leaves the process running; its output is read and dropped. `last`
    /// makes of the exit code what the client gets after the output.
    pub async fn pump<C>(
        mut self,
        client: C,
        keys: DetachKeys,
        gone: impl Future<Output = ()>,
        last: impl FnOnce(Option<i32>) -> Vec<u8>,
    ) where
        C: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let stdin = self.stdin.take();
        let master = self.master.clone();
        let input = async {
            let detached = match &master {
                Some(master) => type_into(&mut from_client, master, keys).await,
                None => feed(&mut from_client, stdin).await,
            };
            if !detached {
                gone.await;
            }
        };
        let ended = tokio::select! {
            () = self.output(&mut to_client) => true,
            () = input => false,
        };
        if ended {
            let exit_code = self.state.borrow().exit_code;
            _ = to_client.write_all(&last(exit_code)).await;
        }
        _ = to_client.shutdown().await;
        drop((from_client, to_client));
        if !ended {
            self.output(&mut tokio::io::sink()).await;
        }
    }

    async fn output<W: AsyncWrite + Unpin>(&mut self, client: &mut W) {
        match &self.master {
            Some(master) => pump_master(master, client, self.state.clone()).await,
            None => pump_pipes(&mut self.stdout, &mut self.stderr, client, self.state.clone()).await,
        }
    }

    /// Detached: only keeps the pty open while the process runs.
    pub async fn hold(mut self) {
        self.output(&mut tokio::io::sink()).await;
    }
}

/// Client to stdin, to the end of its input. Never detaches.
async fn feed<R: AsyncRead + Unpin>(client: &mut R, stdin: Option<tokio::net::unix::pipe::Sender>) -> bool {
    // Without stdin the input is read all the same: its end tells that the client may be leaving.
    _ = match stdin {
        Some(mut stdin) => tokio::io::copy(client, &mut stdin).await,
        None => tokio::io::copy(client, &mut tokio::io::sink()).await,
    };
    false
}

/// Client to pty, to the end of its input; true when the detach keys were typed.
async fn type_into<R: AsyncRead + Unpin>(client: &mut R, master: &AsyncFd<OwnedFd>, mut keys: DetachKeys) -> bool {
    let mut buffer = vec![0; 4096];
    loop {
        let count = match client.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => count,
        };
        let (bytes, detach) = keys.filter(&buffer[..count]);
        if write_master(master, &bytes).await.is_err() {
            return false;
        }
        if detach {
            return true;
        }
    }
}

async fn write_master(master: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = master.writable().await?;
        match ready.try_io(|fd| rustix::io::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
            Ok(Ok(count)) => bytes = &bytes[count..],
            Ok(Err(e)) => return Err(e),
            Err(_would_block) => {}
        }
    }
    Ok(())
}

async fn pump_master<W: AsyncWrite + Unpin>(
    master: &AsyncFd<OwnedFd>,
    client: &mut W,
    state: watch::Receiver<ExecState>,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut client_there = true;
    let read =
        |fd: &AsyncFd<OwnedFd>, buffer: &mut [u8]| rustix::io::read(fd.get_ref(), buffer).map_err(io::Error::from);
    let mut over = std::pin::pin!(wait_over(state.clone()));
    let mut left_bytes = None;
    while left_bytes != Some(0) {
        let count = if left_bytes.is_some() {
            let Ok(count @ 1..) = read(master, &mut buffer) else { return };
            count
        } else {
            tokio::select! {
                ready = master.readable() => {
                    let Ok(mut ready) = ready else { return };
                    match ready.try_io(|fd| read(fd, &mut buffer)) {
                        Ok(Ok(count)) => count,
                        // EIO: the last process that had the terminal open is gone.
                        Ok(Err(_)) => return wait_exit(state).await,
                        Err(_would_block) => continue,
                    }
                }
                () = &mut over => { left_bytes = Some(MAX_LEFT_BYTES); continue }
            }
        };
        left_bytes = left_bytes.map(|left: usize| left.saturating_sub(count));
        client_there = client_there && client.write_all(&buffer[..count]).await.is_ok();
    }
}

async fn wait_exit(mut state: watch::Receiver<ExecState>) {
    _ = state.wait_for(|s| s.exit_code.is_some()).await;
}

/// The process has ended, and whoever else writes has had the time for it.
async fn wait_over(state: watch::Receiver<ExecState>) {
    wait_exit(state).await;
    tokio::time::sleep(LINGER).await;
}

/// Both pipes to the client in stdcopy frames.
async fn pump_pipes<W: AsyncWrite + Unpin>(
    stdout: &mut Option<tokio::net::unix::pipe::Receiver>,
    stderr: &mut Option<tokio::net::unix::pipe::Receiver>,
    client: &mut W,
    state: watch::Receiver<ExecState>,
) {
    let (mut out, mut err) = (Vec::with_capacity(CHUNK_BYTES), Vec::with_capacity(CHUNK_BYTES));
    let mut over = std::pin::pin!(wait_over(state.clone()));
    let mut client_there = true;
    while stdout.is_some() || stderr.is_some() {
        let (kind, read) = tokio::select! {
            read = read_pipe(stdout.as_mut(), &mut out) => (1, read),
            read = read_pipe(stderr.as_mut(), &mut err) => (2, read),
            () = &mut over => {
                drain(stdout.take(), 1, client).await;
                drain(stderr.take(), 2, client).await;
                return;
            }
        };
        let (pipe, buffer) = if kind == 1 { (&mut *stdout, &mut out) } else { (&mut *stderr, &mut err) };
        match read {
            Ok(0) | Err(_) => *pipe = None,
            Ok(_) => client_there = client_there && write_frame(client, kind, buffer).await.is_ok(),
        }
        buffer.clear();
    }
    wait_exit(state).await;
}

async fn read_pipe(pipe: Option<&mut tokio::net::unix::pipe::Receiver>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read_buf(buffer).await,
        None => std::future::pending().await,
    }
}

/// What the process left in a pipe; a background child that holds the other end is not waited for.
async fn drain<W: AsyncWrite + Unpin>(pipe: Option<tokio::net::unix::pipe::Receiver>, kind: u8, client: &mut W) {
    let Some(pipe) = pipe else { return };
    let mut buffer = Vec::with_capacity(CHUNK_BYTES);
    let mut left_bytes = MAX_LEFT_BYTES;
    // rustix, not try_read: tokio's readiness may not know yet of bytes that are there.
    while left_bytes > 0
        && let Ok(count @ 1..) = rustix::io::read(&pipe, rustix::buffer::spare_capacity(&mut buffer))
    {
        left_bytes = left_bytes.saturating_sub(count);
        if write_frame(client, kind, &buffer).await.is_err() {
            return;
        }
        buffer.clear();
    }
}

async fn write_frame<W: AsyncWrite + Unpin>(client: &mut W, kind: u8, payload: &[u8]) -> io::Result<()> {
    client.write_all(&frame_header(kind, payload.len())).await?;
    client.write_all(payload).await
}
