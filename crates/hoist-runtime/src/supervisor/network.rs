//! Carries out a [`NetworkSetup`] while init mounts: the host's batch here, then the container's batch from inside its
//! network namespace.

use std::os::fd::AsRawFd;

use hoist_sys::netlink::Socket;

use crate::failure::Result;
use crate::kit::Network;
use crate::launch::NetworkSetup;
use crate::protocol::Failure;

pub(super) fn set_up(mut setup: NetworkSetup, network: &Network) -> Result<()> {
    let number = network.namespace.as_raw_fd().to_ne_bytes();
    for at in &setup.netns_fd_at {
        let place = setup.host_batch.get_mut(*at..*at + number.len());
        place.ok_or_else(|| Failure::other("network request is malformed"))?.copy_from_slice(&number);
    }
    send(&network.outside, &setup.host_batch).map_err(|reason| failure("host", &reason))?;
    if setup.netns_batch.is_empty() {
        return Ok(());
    }
    send(&network.inside, &setup.netns_batch).map_err(|reason| failure("container", &reason))
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
