//! Carries out a [`NetworkSetup`] while init mounts: the host's batch here, then the container's batch from inside its
//! network namespace.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::netlink::{Protocol, Socket};

use crate::failure::{OrFail, Result};
use crate::launch::NetworkSetup;
use crate::protocol::Failure;

pub(super) fn set_up(mut setup: NetworkSetup, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
    let socket = Socket::open(Protocol::Route).or_fail(|| "open netlink socket")?;
    let path = format!("/proc/{pid}/ns/net");
    let netns = File::open(&path).or_fail(|| format!("open {path}"))?;
    let number = netns.as_raw_fd().to_ne_bytes();
    for at in &setup.netns_fd_at {
        let place = setup.host_batch.get_mut(*at..*at + number.len());
        place.ok_or_else(|| Failure::other("network request is malformed"))?.copy_from_slice(&number);
    }
    send(&socket, &setup.host_batch).map_err(|reason| failure("host", &reason))?;
    if setup.netns_batch.is_empty() {
        return Ok(());
    }
    let own = File::open("/proc/self/ns/net").or_fail(|| "open /proc/self/ns/net")?;
    namespace::join(pidfd, Namespaces::NETWORK).or_fail(|| "join network namespace of the container")?;
    // A socket belongs to the namespace that it is opened in.
    let inside = Socket::open(Protocol::Route);
    namespace::join(own.as_fd(), Namespaces::NETWORK).or_fail(|| "return to own network namespace")?;
    let inside = inside.or_fail(|| "open netlink socket in the container")?;
    send(&inside, &setup.netns_batch).map_err(|reason| failure("container", &reason))
}

fn failure(side: &str, reason: &str) -> Failure {
    Failure::other(format!("failed to set up container networking ({side} side): {reason}"))
}

fn send(socket: &Socket, batch: &[u8]) -> std::result::Result<(), String> {
    match socket.send_batch_detailed(batch) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refused)) => Err(refused.to_string()),
        Err(error) => Err(hoist_sys::errno_text(&error)),
    }
}
