//! The userland proxy: carries what the kernel's NAT cannot, connections to published ports by way of loopback addresses
//! and IPv6. One thread for all ports of an engine, waiting in epoll(7); none until the first port is published.
//!
//! The sockets live in a table that the thread and the handle share, so that a port is free again the moment
//! [`Proxy::withdraw`] returns.

mod datagram;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Resource, getrlimit};

use crate::{Error, Protocol};
use datagram::Datagrams;
use stream::{Pair, Progress};

const WAKE: u64 = 0;
const EVENTS: usize = 64;
/// Bytes that are read at once, and at most kept for a peer that does not take them.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long listeners rest when there is no room for another connection.
const REST: Duration = Duration::from_millis(100);
/// How often idle UDP sessions are looked for.
const IDLE_CHECK: Duration = Duration::from_secs(10);
const CONNECTIONS_PER_EVENT: usize = 16;
const NONBLOCKING: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Handle on the proxy of one engine.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// By the number that epoll returns. Numbers are never used twice, so that late events find nothing.
    entries: HashMap<u64, Entry>,
    next: u64,
    connections: usize,
    /// UDP sessions.
    sessions: usize,
    max_connections: usize,
    /// TCP listeners that rest until then.
    resting_until: Option<Instant>,
    stop: bool,
}

/// A socket in the table. `owner`: id of the endpoint for which it is there.
#[derive(Debug)]
enum Entry {
    Listener {
        owner: String,
        socket: OwnedFd,
        target: SocketAddrV4,
    },
    Pair {
        owner: String,
        pair: Box<Pair>,
    },
    /// The other end of the pair with the number before.
    PairUpstream,
    Datagrams {
        owner: String,
        datagrams: Box<Datagrams>,
    },
    /// A UDP session's socket to the container.
    Session {
        listener: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepted {
    /// All who came, or as many as one event allows.
    Whoever,
    /// There is no room for another connection now.
    NoRoom,
}

impl Proxy {
    pub(crate) fn new() -> Result<Proxy, Error> {
        let fail = |errno: Errno| Error::Other(format!("prepare the port proxy: {errno}"));
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(fail)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fail)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN).map_err(fail)?;
        // A flood of connections must leave the engine most of its descriptors; each connection takes two.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let max_connections = usize::try_from(descriptors / 8).unwrap_or(usize::MAX).clamp(16, 16 * 1024);
        let table = Table {
            entries: HashMap::new(),
            next: 2,
            connections: 0,
            sessions: 0,
            max_connections,
            resting_until: None,
            stop: false,
        };
        let shared = Arc::new(Shared { epoll, wake, table: Mutex::new(table) });
        Ok(Proxy { shared, thread: Mutex::new(None) })
    }

    /// Serves a bound (for TCP: listening) non-blocking socket on behalf of `owner` until it is withdrawn.
    pub(crate) fn serve(
        &self,
        owner: &str,
        protocol: Protocol,
        socket: OwnedFd,
        target: SocketAddrV4,
    ) -> Result<(), Error> {
        let fail = |reason: String| Error::Other(format!("proxy to {target}: {reason}"));
        self.start_thread().map_err(|error| fail(error.to_string()))?;
        let mut table = self.shared.lock();
        let number = table.number();
        epoll::add(&self.shared.epoll, &socket, EventData::new_u64(number), EventFlags::IN)
            .map_err(|errno| fail(errno.to_string()))?;
        let owner = owner.to_owned();
        let entry = match protocol {
            Protocol::Udp => Entry::Datagrams { owner, datagrams: Box::new(Datagrams::new(socket, target)) },
            Protocol::Tcp | Protocol::Sctp => Entry::Listener { owner, socket, target },
        };
        table.entries.insert(number, entry);
        Ok(())
    }

    /// Closes all that is there for `owner`.
    pub(crate) fn withdraw(&self, owner: &str) {
        let table = &mut *self.shared.lock();
        let of_owner = |entry: &Entry| match entry {
            Entry::Listener { owner: of, .. } | Entry::Pair { owner: of, .. } | Entry::Datagrams { owner: of, .. } => {
                of == owner
            }
            Entry::PairUpstream | Entry::Session { .. } => false,
        };
        let numbers: Vec<u64> = table.entries.iter().filter(|(_, e)| of_owner(e)).map(|(n, _)| *n).collect();
        numbers.into_iter().for_each(|number| table.remove(number));
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = self.shared.clone();
            let builder = std::thread::Builder::new().name("hoist-proxy".to_owned()).stack_size(256 * 1024);
            *thread = Some(builder.spawn(move || shared.run())?);
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        let _full_counter_wakes_too = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic in the thread ends the proxy; the table still says what to close.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut next_check = Instant::now() + IDLE_CHECK;
        loop {
            let timeout = self.lock().timeout();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "port proxy stopped");
                    return;
                }
            }
            let table = &mut *self.lock();
            if table.stop {
                return;
            }
            for event in events.drain(..) {
                let Event { data, .. } = event;
                self.handle(table, data.u64(), &mut chunk);
            }
            let now = Instant::now();
            if table.resting_until.is_some_and(|until| until <= now) {
                self.rest(table, None);
            }
            if next_check <= now {
                next_check = now + IDLE_CHECK;
                table.drop_idle(now);
            }
        }
    }

    fn handle(&self, table: &mut Table, number: u64, chunk: &mut [u8]) {
        let (number, session) = match table.entries.get(&number) {
            Some(Entry::PairUpstream) => (number - 1, None),
            Some(Entry::Session { listener }) => (*listener, Some(number)),
            _ => (number, None),
        };
        // Out of the table while it is worked on: what it does may add or remove other entries.
        match table.entries.remove(&number) {
            Some(Entry::Listener { owner, socket, target }) => {
                let accepted = self.accept(table, &owner, &socket, target);
                table.entries.insert(number, Entry::Listener { owner, socket, target });
                if accepted == Accepted::NoRoom {
                    self.rest(table, Some(Instant::now() + REST));
                }
            }
            Some(Entry::Pair { owner, mut pair }) => match pair.pump(&self.epoll, number, chunk) {
                Progress::Open => _ = table.entries.insert(number, Entry::Pair { owner, pair }),
                Progress::Finished => table.forget_pair(number),
            },
            Some(Entry::Datagrams { owner, mut datagrams }) => {
                match session {
                    Some(session) => datagrams.carry_out(session, chunk),
                    None => self.carry_in(table, number, &mut datagrams, chunk),
                }
                table.entries.insert(number, Entry::Datagrams { owner, datagrams });
            }
            Some(Entry::PairUpstream | Entry::Session { .. }) | None => {}
        }
    }

    fn accept(&self, table: &mut Table, owner: &str, listener: &OwnedFd, target: SocketAddrV4) -> Accepted {
        for _ in 0..CONNECTIONS_PER_EVENT {
            if table.connections >= table.max_connections {
                return Accepted::NoRoom;
            }
            let client = match rustix::net::accept_with(listener, NONBLOCKING) {
                Ok(client) => client,
                Err(Errno::AGAIN) => return Accepted::Whoever,
                // The client has gone again (accept(2) lists more of the kind); the next one may be there.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO | Errno::HOSTUNREACH | Errno::NETUNREACH) => {
                    continue;
                }
                Err(_out_of_descriptors_or_memory) => return Accepted::NoRoom,
            };
            let number = table.number();
            // A container that cannot be reached ends the connection of this client, no more.
            if let Ok(pair) = Pair::connect(&self.epoll, number, client, target) {
                let owner = owner.to_owned();
                table.connections += 1;
                table.entries.insert(number, Entry::Pair { owner, pair: Box::new(pair) });
                table.entries.insert(number + 1, Entry::PairUpstream);
            }
        }
        Accepted::Whoever
    }

    fn carry_in(&self, table: &mut Table, number: u64, datagrams: &mut Datagrams, chunk: &mut [u8]) {
        let mut gone = Vec::new();
        datagrams.carry_in(chunk, &mut gone, |socket| {
            let session = table.number();
            epoll::add(&self.epoll, socket.as_fd(), EventData::new_u64(session), EventFlags::IN)?;
            table.entries.insert(session, Entry::Session { listener: number });
            table.sessions += 1;
            Ok(session)
        });
        table.forget_sessions(gone.into_iter());
    }

    /// Lets all TCP listeners rest until then, or wakes them.
    fn rest(&self, table: &mut Table, until: Option<Instant>) {
        let flags = if until.is_some() { EventFlags::empty() } else { EventFlags::IN };
        for (number, entry) in &table.entries {
            if let Entry::Listener { socket, .. } = entry {
                let _closed = epoll::modify(&self.epoll, socket, EventData::new_u64(*number), flags);
            }
        }
        table.resting_until = until;
    }
}

impl Table {
    /// An unused number with an unused successor.
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 2;
        number
    }

    fn timeout(&self) -> Option<Timespec> {
        let timeout = match self.resting_until {
            Some(_) => Some(REST),
            None if self.sessions > 0 => Some(IDLE_CHECK),
            None => None,
        };
        timeout.and_then(|timeout| Timespec::try_from(timeout).ok())
    }

    fn forget_pair(&mut self, number: u64) {
        self.entries.remove(&(number + 1));
        self.connections = self.connections.saturating_sub(1);
    }

    fn remove(&mut self, number: u64) {
        match self.entries.remove(&number) {
            Some(Entry::Pair { .. }) => self.forget_pair(number),
            Some(Entry::Datagrams { datagrams, .. }) => {
                self.forget_sessions(datagrams.sessions());
            }
            _ => {}
        }
    }

    fn drop_idle(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for entry in self.entries.values_mut() {
            if let Entry::Datagrams { datagrams, .. } = entry {
                datagrams.drop_idle(now, &mut gone);
            }
        }
        self.forget_sessions(gone.into_iter());
    }

    fn forget_sessions(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            self.sessions -= usize::from(self.entries.remove(&number).is_some());
        }
    }
}

#[cfg(test)]
mod tests;
