//! `mode=non-blocking`: entries go through a pipe to a process that writes them, and wait in a bounded buffer while the pipe
//! is full. When the buffer is full too they are dropped and counted. Neither the container nor its supervisor waits for the
//! disk while the container runs; its end waits for what is left, for two seconds at most.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use hoist_sys::namespace::Namespaces;
use hoist_sys::poll::{Interest, Set};
use hoist_sys::process::{self, Cloned};
use hoist_sys::signal;
use rustix::pipe::PipeFlags;

use super::files::Files;
use crate::failure::{OrFail, Result};
use crate::protocol::Failure;
use crate::supervisor::time;

/// Size of a buffer of no size.
const DEFAULT_BYTES: u64 = 1_000_000;
/// How long the container's end waits for the entries that wait.
const FINISH_MS: i64 = 2000;
const READ_BYTES: usize = 64 * 1024;

pub(super) struct Buffer {
    waiting: VecDeque<u8>,
    max_bytes: usize,
    pipe: OwnedFd,
    /// The writing process.
    writer: OwnedFd,
    dropped: u64,
    polled: Option<usize>,
}

impl Buffer {
    /// Starts the writing process.
    pub(super) fn start(files: Files, bytes: u64) -> Result<Buffer> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).or_fail(|| "make pipe for log")?;
        let writer = match process::clone(Namespaces::default(), None).or_fail(|| "clone writer of log")? {
            Cloned::Parent { pidfd, .. } => pidfd,
            Cloned::Child => {
                drop(write);
                write_entries(read.into(), files)
            }
        };
        rustix::io::ioctl_fionbio(&write, true).or_fail(|| "make pipe for log")?;
        let bytes = if bytes == 0 { DEFAULT_BYTES } else { bytes };
        let max_bytes = usize::try_from(bytes).map_err(|_| Failure::other("max-buffer-size is too large"))?;
        Ok(Buffer { waiting: VecDeque::new(), max_bytes, pipe: write, writer, dropped: 0, polled: None })
    }

    /// Takes whole entries, each of them a line, as far as there is room. One that is larger than the buffer finds room
    /// when nothing else waits, as with Docker.
    pub(super) fn push_entries(&mut self, entries: &[u8]) {
        for entry in entries.split_inclusive(|byte| *byte == b'\n') {
            if !self.waiting.is_empty() && self.waiting.len() + entry.len() > self.max_bytes {
                self.dropped += 1;
                continue;
            }
            self.waiting.extend(entry);
            self.send();
        }
    }

    /// As much as the pipe takes. A writer that is gone takes everything.
    fn send(&mut self) {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.pipe, first)) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    self.dropped += self.waiting_entries();
                    self.waiting.clear();
                }
            }
        }
    }

    pub(super) fn waiting_entries(&self) -> u64 {
        self.waiting.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    pub(super) fn register(&mut self, set: &mut Set) {
        self.polled = (!self.waiting.is_empty()).then(|| set.add(self.pipe.as_fd(), Interest::Write));
    }

    pub(super) fn handle(&mut self, set: &Set) {
        if self.polled.is_some_and(|index| set.ready(index).any()) {
            self.send();
        }
    }

    /// Waits for the entries to be written, but not for ever. Returns how many were dropped.
    pub(super) fn finish(mut self) -> u64 {
        let deadline_ns = time::now_ns() + FINISH_MS * 1_000_000;
        let left_ms = || i32::try_from((deadline_ns - time::now_ns()) / 1_000_000).unwrap_or(0);
        let mut set = Set::default();
        while !self.waiting.is_empty() && left_ms() > 0 {
            set.clear();
            set.add(self.pipe.as_fd(), Interest::Write);
            let _ = set.wait(Some(left_ms()));
            self.send();
        }
        self.dropped += self.waiting_entries();
        drop(self.pipe);
        set.clear();
        set.add(self.writer.as_fd(), Interest::Read);
        let _ = set.wait(Some(left_ms().max(0)));
        super::compress::reap(&self.writer);
        self.dropped
    }
}

/// In the writing process: until the other end is closed, also by the supervisor's death.
fn write_entries(mut pipe: File, mut files: Files) -> ! {
    // Nobody here looks at how compressing ended, so the kernel reaps.
    let _ = signal::ignore(signal::CHILD);
    let mut keep = vec![pipe.as_raw_fd().unsigned_abs(), files.as_raw_fd().unsigned_abs()];
    let _ = hoist_sys::fd::close_all_except(3, &mut keep);
    let mut buffer = vec![0; READ_BYTES];
    let mut pending = Vec::new();
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => pending.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        }
        if let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') {
            files.write_entries(&pending[..=end]);
            pending.drain(..=end);
        }
    }
    files.finish();
    process::exit_now(0)
}
