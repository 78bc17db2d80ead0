//! One proxied TCP connection: two sockets, bytes carried both ways, each direction closed on its own.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketType, connect, recv, send, shutdown, socket_with, sockopt,
};

use super::NONBLOCKING;

/// Rounds of reading for one event: a fast connection must not keep the others waiting.
const ROUNDS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    Finished,
}

/// Ends of a pair, by index: 0 the client, 1 the container.
#[derive(Debug)]
pub(super) struct Pair {
    ends: [End; 2],
    /// The connection to the container is still being made.
    connecting: bool,
}

#[derive(Debug)]
struct End {
    socket: OwnedFd,
    /// Read from this end, not yet taken by the other. Allocated only while the other end does not keep up.
    pending: Vec<u8>,
    /// This end sends no more.
    ended: bool,
    /// The other end was told so.
    told: bool,
    watched: EventFlags,
}

impl End {
    fn new(socket: OwnedFd) -> End {
        End { socket, pending: Vec::new(), ended: false, told: false, watched: EventFlags::empty() }
    }
}

impl Pair {
    /// Starts connecting to the container; `number` is the client's in `epoll`, the next one the container's.
    pub(super) fn connect(epoll: &OwnedFd, number: u64, client: OwnedFd, target: SocketAddrV4) -> Result<Pair, Errno> {
        let upstream = socket_with(AddressFamily::INET, SocketType::STREAM, NONBLOCKING, None)?;
        for socket in [&client, &upstream] {
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        let connecting = match connect(&upstream, &target) {
            Ok(()) => false,
            Err(Errno::INPROGRESS) => true,
            Err(errno) => {
                reset(&client);
                return Err(errno);
            }
        };
        let mut pair = Pair { ends: [End::new(client), End::new(upstream)], connecting };
        pair.watch(epoll, number)?;
        Ok(pair)
    }

    /// Carries what can be carried now.
    pub(super) fn pump(&mut self, epoll: &OwnedFd, number: u64, chunk: &mut [u8]) -> Progress {
        let carried = self.finish_connecting().and_then(|()| {
            if self.connecting {
                return Ok(());
            }
            self.carry(0, chunk)?;
            self.carry(1, chunk)
        });
        if carried.is_err() {
            // One side broke off: so does the other, rather than to look like an orderly end.
            self.ends.iter().for_each(|end| reset(&end.socket));
            return Progress::Finished;
        }
        if self.ends.iter().all(|end| end.told) || self.watch(epoll, number).is_err() {
            return Progress::Finished;
        }
        Progress::Open
    }

    fn finish_connecting(&mut self) -> Result<(), Errno> {
        if !self.connecting {
            return Ok(());
        }
        sockopt::socket_error(&self.ends[1].socket)??;
        match rustix::net::getpeername(&self.ends[1].socket) {
            Ok(_) => self.connecting = false,
            Err(Errno::NOTCONN) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Carries from one end to the other until one of them has to wait.
    fn carry(&mut self, from: usize, chunk: &mut [u8]) -> Result<(), Errno> {
        let [client, upstream] = &mut self.ends;
        let (source, sink) = if from == 0 { (client, upstream) } else { (upstream, client) };
        for _ in 0..ROUNDS {
            if !source.pending.is_empty() {
                let taken = send_some(&sink.socket, &source.pending)?;
                source.pending.drain(..taken);
                if !source.pending.is_empty() {
                    return Ok(());
                }
                source.pending = Vec::new();
            }
            if source.ended {
                break;
            }
            match recv(&source.socket, &mut *chunk, RecvFlags::empty()) {
                Ok((0, _)) => source.ended = true,
                Ok((length, _)) => {
                    let taken = send_some(&sink.socket, &chunk[..length])?;
                    source.pending.extend(&chunk[taken..length]);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if source.ended && source.pending.is_empty() && !source.told {
            source.told = true;
            match shutdown(&sink.socket, Shutdown::Write) {
                // Gone altogether already.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Watches each end for exactly what would let something move. An end that is watched for nothing leaves epoll:
    /// hang-ups are always reported there, and would come again and again.
    fn watch(&mut self, epoll: &OwnedFd, number: u64) -> Result<(), Errno> {
        let wanted = [0, 1].map(|end| self.wanted(end));
        for ((end, wanted), number) in self.ends.iter_mut().zip(wanted).zip(number..) {
            let data = EventData::new_u64(number);
            match (end.watched.is_empty(), wanted.is_empty()) {
                (true, true) => {}
                (true, false) => epoll::add(epoll, &end.socket, data, wanted)?,
                (false, true) => epoll::delete(epoll, &end.socket)?,
                (false, false) if end.watched == wanted => {}
                (false, false) => epoll::modify(epoll, &end.socket, data, wanted)?,
            }
            end.watched = wanted;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn pending_bytes(&self) -> usize {
        self.ends.iter().map(|end| end.pending.len()).sum()
    }

    fn wanted(&self, index: usize) -> EventFlags {
        let (end, other) = (&self.ends[index], &self.ends[1 - index]);
        if self.connecting {
            return if index == 1 { EventFlags::OUT } else { EventFlags::empty() };
        }
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !end.ended && end.pending.is_empty());
        wanted.set(EventFlags::OUT, !other.pending.is_empty());
        wanted
    }
}

fn send_some(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    match send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => sent,
    }
}

/// Makes the coming close a reset.
fn reset(socket: &OwnedFd) {
    let _gone = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
