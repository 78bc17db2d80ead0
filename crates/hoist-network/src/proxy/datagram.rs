//! One proxied UDP port: each client gets a session, a socket of its own to the container, until it falls silent.

use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, connect, recv, recvfrom, send, sendto, socket_with,
};

use super::NONBLOCKING;

/// As docker-proxy's.
const IDLE: Duration = Duration::from_secs(90);
/// Sessions of one port; beyond, the one that was silent longest goes.
const MAX_SESSIONS: usize = 1024;
const DATAGRAMS_PER_EVENT: usize = 64;

#[derive(Debug)]
pub(super) struct Datagrams {
    socket: OwnedFd,
    target: SocketAddrV4,
    sessions: HashMap<u64, Session>,
    clients: HashMap<SocketAddr, u64>,
}

#[derive(Debug)]
struct Session {
    upstream: OwnedFd,
    client: SocketAddr,
    last_used: Instant,
}

impl Datagrams {
    pub(super) fn new(socket: OwnedFd, target: SocketAddrV4) -> Datagrams {
        Datagrams { socket, target, sessions: HashMap::new(), clients: HashMap::new() }
    }

    /// Carries what clients sent. `enter` puts a new session's socket into the table and numbers it; numbers of sessions
    /// that were given up go to `gone`. What cannot be carried is lost, as datagrams may be.
    pub(super) fn carry_in(
        &mut self,
        chunk: &mut [u8],
        gone: &mut Vec<u64>,
        mut enter: impl FnMut(&OwnedFd) -> Result<u64, Errno>,
    ) {
        for _ in 0..DATAGRAMS_PER_EVENT {
            let (length, client) = match recvfrom(&self.socket, &mut *chunk, RecvFlags::empty()) {
                Ok((length, _, client)) => (length, client.and_then(|client| SocketAddr::try_from(client).ok())),
                // An ICMP error that an earlier answer caused.
                Err(Errno::INTR | Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH) => continue,
                Err(_) => return,
            };
            let Some(client) = client else { continue };
            let now = Instant::now();
            let number = match self.clients.get(&client) {
                Some(number) => *number,
                None => match self.open(client, now, gone, &mut enter) {
                    Ok(number) => number,
                    Err(_no_descriptor_left) => continue,
                },
            };
            if let Some(session) = self.sessions.get_mut(&number) {
                session.last_used = now;
                let _lost = send(&session.upstream, &chunk[..length], SendFlags::NOSIGNAL);
            }
        }
    }

    fn open(
        &mut self,
        client: SocketAddr,
        now: Instant,
        gone: &mut Vec<u64>,
        enter: &mut impl FnMut(&OwnedFd) -> Result<u64, Errno>,
    ) -> Result<u64, Errno> {
        if self.sessions.len() >= MAX_SESSIONS {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used).map(|(number, _)| *number);
            oldest.into_iter().for_each(|number| self.close(number, gone));
        }
        let upstream = socket_with(AddressFamily::INET, SocketType::DGRAM, NONBLOCKING, None)?;
        connect(&upstream, &self.target)?;
        let number = enter(&upstream)?;
        self.sessions.insert(number, Session { upstream, client, last_used: now });
        self.clients.insert(client, number);
        Ok(number)
    }

    /// Carries the container's answers of one session.
    pub(super) fn carry_out(&mut self, number: u64, chunk: &mut [u8]) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        for _ in 0..DATAGRAMS_PER_EVENT {
            match recv(&session.upstream, &mut *chunk, RecvFlags::empty()) {
                Ok((length, _)) => {
                    session.last_used = Instant::now();
                    let _lost = sendto(&self.socket, &chunk[..length], SendFlags::NOSIGNAL, &session.client);
                }
                // Nobody listens in the container, perhaps not yet.
                Err(Errno::INTR | Errno::CONNREFUSED | Errno::HOSTUNREACH) => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn drop_idle(&mut self, now: Instant, gone: &mut Vec<u64>) {
        let idle = |session: &Session| now.duration_since(session.last_used) >= IDLE;
        let numbers: Vec<u64> = self.sessions.iter().filter(|(_, s)| idle(s)).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.close(number, gone));
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = u64> {
        self.sessions.keys().copied()
    }

    fn close(&mut self, number: u64, gone: &mut Vec<u64>) {
        if let Some(session) = self.sessions.remove(&number) {
            self.clients.remove(&session.client);
            gone.push(number);
        }
    }
}
