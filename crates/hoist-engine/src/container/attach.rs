//! Attaching: a socket pair, one end for the client, the other for the supervisor.

use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::container::handle::{Event, Handle, PendingAttach};
use crate::container::record::Record;
use crate::error::{Error, Result};

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A live attachment.
#[derive(Debug)]
pub struct Attachment {
    /// Output arrives in stdcopy frames (raw with a tty), input is written as it is; closed when the container has ended
    /// and all output was delivered.
    pub stream: tokio::net::UnixStream,
    pub tty: bool,
    pub record: Arc<Record>,
}

/// Attaches to a container; before its start the attachment waits for it.
pub(crate) async fn attach(handle: &Handle, options: AttachOptions) -> Result<Attachment> {
    let record = handle.record();
    let failed = |e: std::io::Error| Error::internal(format!("cannot make an attachment: {e}"));
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|e| failed(e.into()))?;
    let stdin = options.stdin && record.fixed.config.open_stdin;
    let pending = PendingAttach { socket: theirs, stdin, stdout: options.stdout, stderr: options.stderr };
    handle.ask(|reply| Event::Attach { attach: pending, reply }).await?;
    let stream = tokio::net::UnixStream::from_std(ours.into()).map_err(failed)?;
    Ok(Attachment { stream, tty: record.fixed.config.tty, record })
}
