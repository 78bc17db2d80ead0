//! A thread that sleeps until somebody else changes the firewall (`nft flush ruleset`, a reload of firewalld or ufw, a
//! start of dockerd) and then puts our part back. Our own changes do not wake it for long.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, getsockname, netlink, recv, socket_with};

use crate::Error;
use crate::message::{u16_at, u32_at};
use crate::networks::Books;
use crate::nft::is_structural;

/// NFNLGRP_NFTABLES, as a bit.
const GROUP_NFTABLES: u32 = 1 << 6;
/// Changes come in bursts: our answer comes when one is over.
const QUIET: Duration = Duration::from_millis(100);
const MAX_BURSTS: usize = 20;

#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn start(books: Arc<Mutex<Books>>) -> Result<Watcher, Error> {
        let fail = |reason: String| Error::Other(format!("watch nf_tables: {reason}"));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))
            .map_err(|errno| fail(errno.to_string()))?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP_NFTABLES)).map_err(|errno| fail(errno.to_string()))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| fail(e.to_string()))?;
        let stop = Arc::new(stop);
        let own_port = getsockname(lock(&books).table().socket().as_fd())
            .ok()
            .and_then(|address| SocketAddrNetlink::try_from(address).ok())
            .map_or(0, |address| address.pid());
        let stopped = stop.clone();
        let builder = std::thread::Builder::new().name("hoist-nft-watch".to_owned()).stack_size(256 * 1024);
        let thread = builder
            .spawn(move || watch(&socket, &stopped, own_port, &books))
            .map_err(|error| fail(error.to_string()))?;
        Ok(Watcher { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _full_counter_wakes_too = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn watch(socket: &OwnedFd, stop: &OwnedFd, own_port: u32, books: &Mutex<Books>) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match wait(socket, stop, None) {
            Woken::Stopped => return,
            Woken::Quiet | Woken::Changes => {}
        }
        if !foreign_changes(socket, own_port, &mut buffer) {
            continue;
        }
        for _ in 0..MAX_BURSTS {
            match wait(socket, stop, Some(QUIET)) {
                Woken::Stopped => return,
                Woken::Quiet => break,
                Woken::Changes => _ = foreign_changes(socket, own_port, &mut buffer),
            }
        }
        lock(books).reassert();
    }
}

enum Woken {
    Stopped,
    Changes,
    Quiet,
}

fn wait(socket: &OwnedFd, stop: &OwnedFd, timeout: Option<Duration>) -> Woken {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Err(_) => return Woken::Stopped,
            Ok(0) => return Woken::Quiet,
            Ok(_) if !fds[1].revents().is_empty() => return Woken::Stopped,
            Ok(_) => return Woken::Changes,
        }
    }
}

/// Reads all that is there; whether somebody else changed chains or rules.
fn foreign_changes(socket: &OwnedFd, own_port: u32, buffer: &mut [u8]) -> bool {
    let mut foreign = false;
    loop {
        match recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => foreign |= is_foreign(&buffer[..length], own_port),
            Err(Errno::AGAIN) => return foreign,
            // Messages were lost: whatever they said.
            Err(Errno::NOBUFS) => foreign = true,
            Err(Errno::INTR) => {}
            Err(_) => return foreign,
        }
    }
}

pub(crate) fn is_foreign(mut messages: &[u8], own_port: u32) -> bool {
    while let (Some(length), Some(kind), Some(port)) = (u32_at(messages, 0), u16_at(messages, 4), u32_at(messages, 12))
    {
        if port != own_port && is_structural(kind) {
            return true;
        }
        let next = usize::try_from(length).unwrap_or(usize::MAX).max(16).checked_next_multiple_of(4);
        match next.and_then(|next| messages.get(next..)) {
            Some(rest) => messages = rest,
            None => return false,
        }
    }
    false
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}
