//! The loop between this process's standard streams and a hijacked connection.
//!
//! One thread waits for the connection, standard input and signals at once. Input that the engine does not take yet
//! is held (one read's worth) while output goes on, so that a filter inside cannot deadlock with us.

use std::{
    io::{self, IsTerminal, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use hoist_client::{
    Hijacked,
    stdcopy::{Demux, Piece},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{SendFlags, send},
};

use super::{
    detach::Watch,
    signals::{Signal, Signals},
    tty::{self, RawMode},
};
use crate::app::{Failure, Outcome};

/// How the two ends understand each other beyond plain bytes.
pub(crate) trait Peer {
    /// Input as it goes over the connection.
    fn encode_input(&self, input: &[u8]) -> Vec<u8>;
    /// What says that input has ended; `None` closes our half of the connection.
    fn input_end(&self) -> Option<Vec<u8>>;
    /// Passes a signal on, in place or by a request of its own; what is returned goes over the connection.
    fn signal(&mut self, name: &str) -> Vec<u8>;
    fn resize(&mut self, rows: u16, columns: u16) -> Vec<u8>;
    /// A control message in the stream.
    fn control(&mut self, message: &[u8]) -> Outcome;
}

/// What is attached, and how.
#[derive(Default)]
pub(crate) struct Wiring {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// There is a terminal inside: output is one stream, keys are watched.
    pub(crate) tty: bool,
    /// The stream is in frames even for a terminal.
    pub(crate) always_framed: bool,
    pub(crate) detach_keys: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The engine closed the stream.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// So large that the allocator has it from the kernel, which provides only the pages that are used.
const BUFFER_BYTES: usize = 256 << 10;

pub(crate) struct Relay<'a, P> {
    wiring: Wiring,
    peer: &'a mut P,
    signals: Option<&'a mut Signals>,
    demux: Demux,
    watch: Option<Watch>,
    /// Encoded for the engine, not yet taken.
    unsent: Vec<u8>,
    input_open: bool,
    raw: Option<RawMode>,
}

impl<'a, P: Peer> Relay<'a, P> {
    pub(crate) fn new(wiring: Wiring, peer: &'a mut P, signals: Option<&'a mut Signals>) -> io::Result<Self> {
        let raw = if wiring.stdin && wiring.tty { RawMode::enter()? } else { None };
        let watch = (wiring.tty && wiring.stdin).then(|| Watch::new(wiring.detach_keys.clone()));
        let input_open = wiring.stdin;
        Ok(Self { wiring, peer, signals, demux: Demux::default(), watch, unsent: Vec::new(), input_open, raw })
    }

    pub(crate) fn run(mut self, mut connection: Hijacked) -> Outcome<Ended> {
        if !self.input_open {
            self.end_input(&connection)?;
        }
        let early = std::mem::take(&mut connection.early);
        self.output(&early)?;
        if self.wiring.tty {
            self.resize();
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let ready = self.wait(&connection)?;
            if ready.signals {
                self.take_signals();
            }
            if ready.output {
                let count = match connection.stream.read(&mut buffer) {
                    Ok(0) => return Ok(Ended::Closed),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Ended::Closed),
                    Err(error) => return Err(error.into()),
                };
                self.output(&buffer[..count])?;
            }
            if ready.input && self.input(&mut buffer, &connection)? == Ended::Detached {
                return Ok(Ended::Detached);
            }
            self.flush(&connection)?;
        }
    }

    fn wait(&self, connection: &Hijacked) -> Outcome<Ready> {
        let stdin = io::stdin();
        let sending = if self.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut polled = vec![PollFd::from_borrowed_fd(connection.stream.as_fd(), PollFlags::IN | sending)];
        let takes_input = self.input_open && self.unsent.is_empty();
        if takes_input {
            polled.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        if let Some(signals) = &self.signals {
            polled.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
        }
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let is_ready = |index: usize| !polled[index].revents().difference(PollFlags::OUT).is_empty();
        Ok(Ready {
            output: is_ready(0),
            input: takes_input && is_ready(1),
            signals: self.signals.is_some() && is_ready(polled.len() - 1),
        })
    }

    fn take_signals(&mut self) {
        let pending = self.signals.as_mut().map(|signals| signals.pending()).unwrap_or_default();
        for signal in pending {
            match signal {
                Signal::Resized => self.resize(),
                Signal::Proxied(name) => {
                    let bytes = self.peer.signal(name);
                    self.unsent.extend(bytes);
                }
            }
        }
    }

    fn resize(&mut self) {
        if let Some((rows, columns)) = tty::size() {
            let bytes = self.peer.resize(rows, columns);
            self.unsent.extend(bytes);
        }
    }

    fn input(&mut self, buffer: &mut [u8], connection: &Hijacked) -> Outcome<Ended> {
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(Ended::Closed),
            // a terminal that hung up, or job control in the background: no more input
            Err(_) => 0,
        };
        if count == 0 {
            self.input_open = false;
            self.end_input(connection)?;
            return Ok(Ended::Closed);
        }
        let input = &buffer[..count];
        match &mut self.watch {
            None => {
                let bytes = self.peer.encode_input(input);
                self.unsent.extend(bytes);
            }
            Some(watch) => {
                let (typed, detached) = watch.filter(input);
                if !typed.is_empty() {
                    let bytes = self.peer.encode_input(&typed);
                    self.unsent.extend(bytes);
                }
                if detached {
                    self.flush(connection)?;
                    return Ok(Ended::Detached);
                }
            }
        }
        Ok(Ended::Closed)
    }

    fn end_input(&mut self, connection: &Hijacked) -> Outcome {
        match self.peer.input_end() {
            Some(bytes) => self.unsent.extend(bytes),
            None => {
                // the engine may be gone already; its output then tells
                let _ = connection.stream.shutdown_write();
            }
        }
        Ok(())
    }

    /// Sends what the engine takes now.
    fn flush(&mut self, connection: &Hijacked) -> Outcome {
        while !self.unsent.is_empty() {
            match send(connection.stream.as_fd(), &self.unsent, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => {
                    // nobody reads input any more; output may still come
                    self.unsent.clear();
                    self.input_open = false;
                }
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    fn output(&mut self, bytes: &[u8]) -> Outcome {
        if bytes.is_empty() {
            return Ok(());
        }
        let (show_out, show_err) = (self.wiring.stdout, self.wiring.stderr);
        if self.wiring.tty && !self.wiring.always_framed {
            return if show_out || show_err { write_all(&mut io::stdout(), bytes) } else { Ok(()) };
        }
        let peer = &mut *self.peer;
        let raw = &mut self.raw;
        self.demux.push(bytes, |piece| -> Outcome {
            match piece {
                Piece::Stdout(payload) if show_out => write_all(&mut io::stdout(), payload),
                Piece::Stderr(payload) if show_err => write_all(&mut io::stderr(), payload),
                Piece::Control(message) => {
                    let result = peer.control(message);
                    if result.is_err() {
                        // what is printed next must find the terminal as it was
                        raw.take();
                    }
                    result
                }
                _ => Ok(()),
            }
        })
    }
}

struct Ready {
    output: bool,
    input: bool,
    signals: bool,
}

fn write_all(to: &mut impl Write, bytes: &[u8]) -> Outcome {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

/// Waits until `fd` can be read, passing signals on meanwhile.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, signals: Option<&mut Signals>, peer: &mut impl Peer) -> Outcome {
    let Some(signals) = signals else { return Ok(()) };
    loop {
        let mut polled =
            [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::from(io::Error::from(error))),
        }
        let [answered, signalled] = polled.map(|fd| !fd.revents().is_empty());
        if signalled {
            for signal in signals.pending() {
                if let Signal::Proxied(name) = signal {
                    peer.signal(name);
                }
            }
        }
        if answered {
            return Ok(());
        }
    }
}

/// Is there a terminal on both sides, so that its size matters?
pub(crate) fn has_terminal() -> bool {
    io::stdout().is_terminal()
}
