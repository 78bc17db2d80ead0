//! The container's standard streams: output to the log and to attachments, input from attachments.
//!
//! There is one chunk of output in flight at a time. No more is read until every attachment has taken it, so that a slow
//! one slows the container down, and nothing is queued here. Input likewise. Only a log that does not block has a queue, of
//! a size that is given ([`super::log`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoist_sys::poll::{Interest, Ready, Set};
use rustix::io::Errno;

use super::log::Logger;
use crate::launch::Stdio;
pub(super) use attachment::Wanted;
use attachment::{Attachment, Chunk, HEADER_BYTES};

mod attachment;

const CHUNK_BYTES: usize = 32 * 1024;
const INPUT_BYTES: usize = 16 * 1024;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;

/// Everything about the streams of one container.
pub(super) struct Streams {
    stdio: Stdio,
    /// Our ends; with a terminal its master is the only one.
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// The terminal's output has come to its end (the master stays open).
    terminal_ended: bool,
    log: Logger,
    chunk: Chunk,
    input: Input,
    attachments: Vec<Attachment>,
    polled: Polled,
}

/// Input in flight.
struct Input {
    buffer: Vec<u8>,
    from: usize,
    length: usize,
    close_when_written: bool,
}

/// Indices in the poll set.
#[derive(Default)]
struct Polled {
    stdin: Option<usize>,
    stdout: Option<usize>,
    stderr: Option<usize>,
    terminal: Option<usize>,
}

impl Streams {
    /// `pipes` are our ends of stdin, stdout and stderr.
    pub(super) fn new(stdio: Stdio, log: Logger, pipes: [Option<OwnedFd>; 3]) -> Streams {
        let [stdin, stdout, stderr] = pipes;
        Streams {
            stdio,
            stdin,
            stdout,
            stderr,
            terminal: None,
            terminal_ended: false,
            log,
            // Zeroed memory is not touched until it is used.
            chunk: Chunk { buffer: vec![0; HEADER_BYTES + CHUNK_BYTES], length: 0 },
            input: Input { buffer: vec![0; INPUT_BYTES], from: 0, length: 0, close_when_written: false },
            attachments: Vec::new(),
            polled: Polled::default(),
        }
    }

    pub(super) fn set_terminal(&mut self, master: OwnedFd) {
        let _ = rustix::io::ioctl_fionbio(&master, true);
        self.terminal = Some(master);
    }

    pub(super) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn attach(&mut self, socket: OwnedFd, wanted: Wanted) {
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        let has_input = wanted.stdin && (self.stdin.is_some() || self.stdio.tty && self.stdio.open_stdin);
        self.attachments.push(Attachment {
            socket,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !self.stdio.tty,
            input: has_input,
            hung_up: false,
            // It gets nothing of what is in flight.
            sent: self.chunk.length,
            backlog: Vec::new(),
            polled: None,
            gone: false,
        });
    }

    pub(super) fn register(&mut self, set: &mut Set) {
        let idle = self.chunk.length == 0;
        let pending_input = self.input.length > 0;
        let add = |set: &mut Set, fd: &Option<OwnedFd>, wanted: bool, interest| {
            fd.as_ref().filter(|_| wanted).map(|fd| set.add(fd.as_fd(), interest))
        };
        self.polled.stdout = add(set, &self.stdout, idle, Interest::Read);
        self.polled.stderr = add(set, &self.stderr, idle, Interest::Read);
        self.polled.stdin = add(set, &self.stdin, pending_input, Interest::Write);
        let read_terminal = idle && !self.terminal_ended;
        let interest = match (read_terminal, pending_input) {
            (true, true) => Interest::ReadWrite,
            (false, true) => Interest::Write,
            _ => Interest::Read,
        };
        self.polled.terminal = add(set, &self.terminal, read_terminal || pending_input, interest);
        self.log.register(set);
        for attachment in &mut self.attachments {
            attachment.polled = attachment
                .interest(&self.chunk, pending_input)
                .map(|interest| set.add(attachment.socket.as_fd(), interest));
        }
    }

    pub(super) fn handle(&mut self, set: &Set) {
        let ready = |index: Option<usize>| index.map_or(Ready::default(), |index| set.ready(index));
        let (stdin, terminal) = (ready(self.polled.stdin), ready(self.polled.terminal));
        self.log.handle(set);
        if stdin.any() || terminal.write {
            self.write_input();
        }
        for index in 0..self.attachments.len() {
            let ready = ready(self.attachments[index].polled);
            if ready.write {
                self.attachments[index].send(&self.chunk, self.stdio.tty);
            }
            if (ready.read || ready.hangup) && self.attachments[index].input && self.input.length == 0 {
                self.read_input(index);
            } else if ready.hangup {
                self.attachments[index].hang_up();
            }
        }
        self.finish_chunk();
        if ready(self.polled.stdout).any() {
            self.read_output(STDOUT);
        }
        if ready(self.polled.stderr).any() && self.chunk.length == 0 {
            self.read_output(STDERR);
        }
        if (terminal.read || terminal.hangup) && self.chunk.length == 0 && !self.terminal_ended {
            self.read_output(STDOUT);
        }
        self.remove_gone();
    }

    /// Reads one chunk, logs it and offers it to the attachments. Whether there was one.
    fn read_output(&mut self, stream: u8) -> bool {
        let source = if self.stdio.tty {
            &self.terminal
        } else if stream == STDERR {
            &self.stderr
        } else {
            &self.stdout
        };
        let Some(fd) = source else { return false };
        let read = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut self.chunk.buffer[HEADER_BYTES..]));
        let length = match read {
            Err(Errno::AGAIN) => return false,
            // A terminal without any open slave gives EIO: its end.
            Ok(0) | Err(_) => {
                self.end_output(stream);
                return false;
            }
            Ok(length) => length,
        };
        self.log.write(stream, &self.chunk.buffer[HEADER_BYTES..HEADER_BYTES + length]);
        self.chunk.fill_header(stream, length);
        for attachment in &mut self.attachments {
            let wanted = if stream == STDERR { attachment.stderr } else { attachment.stdout };
            let start = if self.stdio.tty { HEADER_BYTES } else { 0 };
            attachment.sent = if wanted { start } else { self.chunk.length };
            attachment.send(&self.chunk, self.stdio.tty);
        }
        self.finish_chunk();
        true
    }

    fn end_output(&mut self, stream: u8) {
        match stream {
            _ if self.stdio.tty => self.terminal_ended = true,
            STDERR => self.stderr = None,
            _ => self.stdout = None,
        }
        self.log.end(stream);
    }

    fn finish_chunk(&mut self) {
        let length = self.chunk.length;
        if length > 0 && self.attachments.iter().all(|attachment| attachment.gone || attachment.sent >= length) {
            self.chunk.length = 0;
        }
    }

    fn read_input(&mut self, index: usize) {
        let attachment = &mut self.attachments[index];
        match rustix::io::retry_on_intr(|| rustix::io::read(&attachment.socket, &mut self.input.buffer[..])) {
            Err(Errno::AGAIN) => {}
            Ok(0) | Err(_) => {
                attachment.input = false;
                if attachment.hung_up || !(attachment.stdout || attachment.stderr) {
                    attachment.gone = true;
                }
                self.input_ended();
            }
            Ok(length) => {
                self.input.from = 0;
                self.input.length = length;
                self.write_input();
            }
        }
    }

    /// An attachment that had stdin has no more to say.
    fn input_ended(&mut self) {
        if self.stdio.stdin_once && !self.stdio.tty {
            if self.input.length > 0 {
                self.input.close_when_written = true;
            } else {
                self.close_stdin();
            }
        }
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
        self.input.length = 0;
        for attachment in &mut self.attachments {
            attachment.input = false;
        }
    }

    fn write_input(&mut self) {
        let Some(fd) = self.stdin.as_ref().or(self.terminal.as_ref()) else {
            self.input.length = 0;
            return;
        };
        let pending = &self.input.buffer[self.input.from..self.input.from + self.input.length];
        match rustix::io::retry_on_intr(|| rustix::io::write(fd, pending)) {
            Err(Errno::AGAIN) => {}
            Ok(written) => {
                self.input.from += written;
                self.input.length -= written;
                if self.input.length == 0 && self.input.close_when_written {
                    self.close_stdin();
                }
            }
            // The container closed its end.
            Err(_) if self.terminal.is_none() => self.close_stdin(),
            Err(_) => self.input.length = 0,
        }
    }

    fn remove_gone(&mut self) {
        let gone_with_stdin = self.attachments.iter().any(|attachment| attachment.gone && attachment.input);
        self.attachments.retain(|attachment| !attachment.gone);
        if gone_with_stdin {
            self.input_ended();
        }
        self.finish_chunk();
    }

    /// After the container's end: takes what its pipes still hold into the log and the attachments' backlogs. Whether all
    /// outputs have come to their ends.
    pub(super) fn drain(&mut self) -> bool {
        self.close_stdin();
        for attachment in &mut self.attachments {
            attachment.keep_rest(&self.chunk);
        }
        self.chunk.length = 0;
        let streams: &[u8] = if self.stdio.tty { &[STDOUT] } else { &[STDOUT, STDERR] };
        for stream in streams {
            // Attachments that wait for their backlog take nothing directly.
            while self.read_output(*stream) {
                for attachment in &mut self.attachments {
                    attachment.keep_rest(&self.chunk);
                }
                self.chunk.length = 0;
            }
        }
        if self.stdio.tty { self.terminal_ended } else { self.stdout.is_none() && self.stderr.is_none() }
    }

    /// No more output will come: the logs get the unfinished lines, the attachments without backlog are closed.
    pub(super) fn end_outputs(&mut self) {
        for stream in [STDOUT, STDERR] {
            self.end_output(stream);
        }
        self.stdout = None;
        self.stderr = None;
        self.terminal = None;
        self.terminal_ended = true;
        self.drop_finished();
    }

    /// After the outputs' ends: the log is whole when this returns, unless the disk is too slow. How many entries were
    /// dropped.
    pub(super) fn finish_log(&mut self) -> u64 {
        self.log.finish()
    }

    /// Sends backlogs; whether some are left.
    pub(super) fn send_backlogs(&mut self) -> bool {
        for attachment in &mut self.attachments {
            attachment.send_backlog();
        }
        self.drop_finished();
        !self.attachments.is_empty()
    }

    pub(super) fn register_backlogs(&self, set: &mut Set) {
        for attachment in &self.attachments {
            set.add(attachment.socket.as_fd(), Interest::Write);
        }
    }

    fn drop_finished(&mut self) {
        self.attachments.retain(|attachment| !attachment.gone && !attachment.backlog.is_empty());
    }
}
