//! Who output goes to: sockets of the engine, and the chunk that is on its way to them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoist_sys::poll::Interest;
use rustix::io::Errno;
use rustix::net::SendFlags;

/// Of stdcopy frames: type, three zeros, length.
pub(super) const HEADER_BYTES: usize = 8;
/// Of 4 KiB; more than a socket holds by default.
const MAX_SCRAPS: usize = 256;

/// Output in flight: a frame header and the data.
pub(super) struct Chunk {
    pub(super) buffer: Vec<u8>,
    /// Bytes in the buffer, header included; 0: nothing in flight.
    pub(super) length: usize,
}

/// An attached stream socket.
pub(super) struct Attachment {
    pub(super) socket: OwnedFd,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// Its input has not come to its end.
    pub(super) input: bool,
    pub(super) hung_up: bool,
    /// How much of the chunk it has.
    pub(super) sent: usize,
    /// After the container's end: what it still gets.
    pub(super) backlog: Vec<u8>,
    pub(super) polled: Option<usize>,
    pub(super) gone: bool,
}

/// What an attachment asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::supervisor) struct Wanted {
    pub(in crate::supervisor) stdin: bool,
    pub(in crate::supervisor) stdout: bool,
    pub(in crate::supervisor) stderr: bool,
}

impl Chunk {
    pub(super) fn fill_header(&mut self, stream: u8, length: usize) {
        self.buffer[..4].copy_from_slice(&[stream, 0, 0, 0]);
        self.buffer[4..HEADER_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        self.length = HEADER_BYTES + length;
    }
}

impl Attachment {
    pub(super) fn interest(&self, chunk: &Chunk, pending_input: bool) -> Option<Interest> {
        let write = self.sent < chunk.length;
        let read = self.input && !pending_input;
        match (read, write) {
            (true, true) => Some(Interest::ReadWrite),
            (true, false) => Some(Interest::Read),
            (false, true) => Some(Interest::Write),
            // A hang-up that is known would be told again and again.
            (false, false) => (!self.hung_up).then_some(Interest::Hangup),
        }
    }

    /// Both directions are closed. Input that is still unread comes first.
    pub(super) fn hang_up(&mut self) {
        self.hung_up = true;
        if !self.input {
            self.gone = true;
        }
    }

    pub(super) fn send(&mut self, chunk: &Chunk, tty: bool) {
        debug_assert!(!tty || self.sent >= HEADER_BYTES || chunk.length == 0);
        while !self.gone && self.sent < chunk.length {
            if !self.backlog.is_empty() {
                return;
            }
            match send(self.socket.as_fd(), &chunk.buffer[self.sent..chunk.length]) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => return,
                Err(_) => self.lose_output(chunk.length),
            }
        }
    }

    /// Nobody reads; what it still has to say is taken.
    fn lose_output(&mut self, sent: usize) {
        self.stdout = false;
        self.stderr = false;
        self.sent = sent;
        self.gone = !self.input;
    }

    pub(super) fn keep_rest(&mut self, chunk: &Chunk) {
        if self.sent < chunk.length {
            self.backlog.extend_from_slice(&chunk.buffer[self.sent..chunk.length]);
        }
        self.sent = 0;
    }

    pub(super) fn send_backlog(&mut self) {
        while !self.gone && !self.backlog.is_empty() {
            match send(self.socket.as_fd(), &self.backlog) {
                Ok(sent) => {
                    self.backlog.drain(..sent);
                }
                Err(Errno::AGAIN) => return,
                Err(_) => self.gone = true,
            }
        }
    }
}

impl Drop for Attachment {
    /// Input that nobody took would make the end of the output look like an error (ECONNRESET, unix(7)).
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        let mut scrap = [0; 4096];
        for _ in 0..MAX_SCRAPS {
            if !rustix::io::read(&self.socket, &mut scrap).is_ok_and(|length| length > 0) {
                return;
            }
        }
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> std::result::Result<usize, Errno> {
    rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))
}
