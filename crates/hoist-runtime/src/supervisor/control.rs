//! Connections of engines: the one that launched, and later ones by way of `supervisor.sock`.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use hoist_sys::poll::{Interest, Set};
use hoist_sys::socket;
use rustix::net::{RecvFlags, SendFlags};

use crate::memory_file;
use crate::protocol::{FromSupervisor, MAX_FILE_BYTES, MAX_MESSAGE_BYTES, ToSupervisor};

/// An engine that leaves more messages than this unread is taken for dead; it can connect again.
const MAX_UNREAD: usize = 256;
/// Engines at once; more are refused.
const MAX_LINKS: usize = 16;
const FLUSH_TIMEOUT_MS: i32 = 1000;

/// All connections.
#[derive(Default)]
pub(super) struct Links {
    listener: Option<OwnedFd>,
    links: Vec<Link>,
    buffer: Vec<u8>,
    polled_listener: Option<usize>,
}

struct Link {
    socket: OwnedFd,
    unsent: VecDeque<Vec<u8>>,
    polled: Option<usize>,
    gone: bool,
}

/// A message, the fds that came along, and the connection to answer on.
pub(super) struct Received {
    pub(super) message: ToSupervisor,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) link: usize,
}

impl Links {
    pub(super) fn new(control: OwnedFd) -> Links {
        let link = Link { socket: control, unsent: VecDeque::new(), polled: None, gone: false };
        // Zeroed memory is not touched until it is used.
        Links { listener: None, links: vec![link], buffer: vec![0; MAX_MESSAGE_BYTES], polled_listener: None }
    }

    /// No engine is there.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn listen(&mut self, listener: OwnedFd) {
        self.listener = Some(listener);
    }

    pub(super) fn stop_listening(&mut self) {
        self.listener = None;
    }

    pub(super) fn register(&mut self, set: &mut Set) {
        self.polled_listener = self.listener.as_ref().map(|listener| set.add(listener.as_fd(), Interest::Read));
        for link in &mut self.links {
            let interest = if link.unsent.is_empty() { Interest::Read } else { Interest::ReadWrite };
            link.polled = Some(set.add(link.socket.as_fd(), interest));
        }
    }

    /// Sends what waits, and accepts a new engine; its index is returned, it is to be greeted.
    pub(super) fn handle(&mut self, set: &Set) -> Option<usize> {
        for link in &mut self.links {
            if link.polled.is_some_and(|index| set.ready(index).write) {
                link.send_unsent();
            }
        }
        self.links.retain(|link| !link.gone);
        self.polled_listener.filter(|index| set.ready(*index).any()).and_then(|_| self.accept())
    }

    /// Whether the poll set saw something to read on any connection.
    pub(super) fn readable(&self, set: &Set) -> bool {
        self.links
            .iter()
            .any(|link| link.polled.map(|index| set.ready(index)).is_some_and(|ready| ready.read || ready.hangup))
    }

    fn accept(&mut self) -> Option<usize> {
        let socket = socket::accept(self.listener.as_ref()?.as_fd()).ok()?;
        let own = rustix::process::geteuid().as_raw();
        let allowed = socket::peer_uid(socket.as_fd()).is_ok_and(|uid| uid == own || uid == 0);
        if !allowed || self.links.len() >= MAX_LINKS {
            return None;
        }
        self.links.push(Link { socket, unsent: VecDeque::new(), polled: None, gone: false });
        Some(self.links.len() - 1)
    }

    /// The next message of any connection. Those of a newer release, which this one does not know, are skipped.
    pub(super) fn receive(&mut self) -> Option<Received> {
        for (index, link) in self.links.iter_mut().enumerate() {
            while !link.gone {
                let result = socket::receive(link.socket.as_fd(), &mut self.buffer, RecvFlags::DONTWAIT);
                let (length, fds) = match result {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidData => continue,
                    Ok((0, _)) | Err(_) => {
                        link.gone = true;
                        break;
                    }
                    Ok(received) => received,
                };
                if let Some((message, fds)) = read(&self.buffer[..length], fds) {
                    return Some(Received { message, fds, link: index });
                }
            }
        }
        self.links.retain(|link| !link.gone);
        None
    }

    pub(super) fn send(&mut self, link: usize, message: &FromSupervisor) {
        if let (Some(link), Ok(bytes)) = (self.links.get_mut(link), serde_json::to_vec(message)) {
            link.send(bytes);
        }
    }

    pub(super) fn send_all(&mut self, message: &FromSupervisor) {
        if let Ok(bytes) = serde_json::to_vec(message) {
            for link in &mut self.links {
                link.send(bytes.clone());
            }
        }
    }

    /// After a failed start: an engine may still be sending what belongs to the start. It shall find the reason, not a
    /// broken pipe. Waits, bounded, until the engines have gone.
    pub(super) fn wait_until_closed(&mut self) {
        self.listener = None;
        let mut set = Set::default();
        for _ in 0..MAX_UNREAD {
            set.clear();
            self.register(&mut set);
            if self.links.is_empty() || !set.wait(Some(FLUSH_TIMEOUT_MS)).is_ok_and(|ready| ready > 0) {
                return;
            }
            self.handle(&set);
            while self.receive().is_some() {}
        }
    }

    /// Waits, bounded, until everything is sent.
    pub(super) fn flush(&mut self) {
        let mut set = Set::default();
        loop {
            self.links.retain(|link| !link.gone && !link.unsent.is_empty());
            set.clear();
            for link in &self.links {
                set.add(link.socket.as_fd(), Interest::Write);
            }
            if self.links.is_empty() || !set.wait(Some(FLUSH_TIMEOUT_MS)).is_ok_and(|ready| ready > 0) {
                return;
            }
            for link in &mut self.links {
                link.send_unsent();
            }
        }
    }

    /// Ends all connections.
    pub(super) fn close(&mut self) {
        self.links.clear();
    }
}

/// A message and the fds that are its own; `None` if it is not known.
fn read(bytes: &[u8], mut fds: Vec<OwnedFd>) -> Option<(ToSupervisor, Vec<OwnedFd>)> {
    let message = serde_json::from_slice(bytes).ok()?;
    if !matches!(message, ToSupervisor::InFile) || fds.is_empty() {
        return Some((message, fds));
    }
    let bytes = memory_file::read(fds.remove(0), MAX_FILE_BYTES).ok()?;
    Some((serde_json::from_slice(&bytes).ok()?, fds))
}

impl Link {
    fn send(&mut self, bytes: Vec<u8>) {
        self.unsent.push_back(bytes);
        self.send_unsent();
        if self.unsent.len() > MAX_UNREAD {
            self.gone = true;
        }
    }

    fn send_unsent(&mut self) {
        while let Some(bytes) = self.unsent.front() {
            match socket::send(self.socket.as_fd(), bytes, &[], SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.unsent.pop_front();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}
