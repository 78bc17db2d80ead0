//! Unix sockets that carry datagrams with fds: unix(7), `SOCK_SEQPACKET`, `SCM_RIGHTS`. All of it close-on-exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::syscall;

/// Most fds in one datagram.
pub const MAX_FDS: usize = 8;

/// A connected pair.
pub fn pair(flags: SocketFlags) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// How much of what was sent the other side has not taken yet (SIOCOUTQ): of a unix socket what nobody has read, in bytes of
/// kernel memory; of TCP what was not acknowledged (tcp(7)).
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ by another name, writes one int.
    syscall::check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) })?;
    Ok(usize::try_from(waiting).unwrap_or(0))
}

/// Sends one datagram with fds. Never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many file descriptors for one message"));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::WriteZero, "message was sent in part")),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The length of the next datagram, which stays; 0 is the end. `WouldBlock` when there is none yet.
pub fn next_length(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let nothing: &mut [u8] = &mut [];
    Ok(rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *nothing, flags))?.1)
}

/// Receives one datagram into `buffer`: its length and its fds. Length 0 is the end. A datagram that is longer than the
/// buffer is an error (`InvalidData`), its fds are closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: RecvFlags) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = item {
            fds.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message is too long"));
    }
    Ok((message.bytes, fds))
}

/// Listens on `directory/name`, removing what an earlier process left there. The address goes by way of
/// `/proc/self/fd`, because `sun_path` holds only 108 bytes.
pub fn listen(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    listen_on(new_socket(SocketFlags::NONBLOCK)?, directory, name)
}

/// As [`listen`], for a stream of bytes.
pub fn listen_stream(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    listen_on(socket, directory, name)
}

fn listen_on(socket: OwnedFd, directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    // The mode of a unix socket's file is that of the socket's inode at bind(2); so nobody can connect in between.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address(directory, name)?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Connects to `directory/name`; the socket is non-blocking afterwards.
pub fn connect(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let socket = new_socket(SocketFlags::NONBLOCK)?;
    rustix::net::connect(&socket, &address(directory.as_fd(), name)?)?;
    Ok(socket)
}

/// Takes one connection, if one waits.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// User id of the process at the other end (`SO_PEERCRED`).
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)?)
}

fn address(directory: BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fds_travel_with_a_datagram_and_the_end_is_told() {
        let (a, b) = pair(SocketFlags::empty()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(a.as_fd(), b"hello", &[file.as_fd(), a.as_fd()], SendFlags::empty()).unwrap();
        assert_eq!(next_length(b.as_fd()).unwrap(), 5);
        let mut buffer = [0; 16];
        let (length, fds) = receive(b.as_fd(), &mut buffer, RecvFlags::empty()).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (&b"hello"[..], 2));
        assert_eq!(next_length(b.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send(a.as_fd(), &[1; 17], &[file.as_fd()], SendFlags::empty()).unwrap();
        let error = receive(b.as_fd(), &mut buffer, RecvFlags::empty()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop((a, fds));
        assert_eq!(next_length(b.as_fd()).unwrap(), 0);
        assert_eq!(receive(b.as_fd(), &mut buffer, RecvFlags::empty()).unwrap().0, 0);
    }

    #[test]
    fn what_the_other_side_has_not_read_is_known() {
        use std::io::{Read, Write};
        let (mut a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unread_by_peer(a.as_fd()).unwrap(), 0);
        a.write_all(b"head").unwrap();
        assert!(unread_by_peer(a.as_fd()).unwrap() > 0);
        b.read_exact(&mut [0; 3]).unwrap();
        assert!(unread_by_peer(a.as_fd()).unwrap() > 0);
        b.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(unread_by_peer(a.as_fd()).unwrap(), 0);
    }

    #[test]
    fn a_listener_in_a_directory_with_a_very_long_name_can_be_reached_by_its_owner_only() {
        let directory = std::env::temp_dir().join(format!("hoist-sys-{}-{}", std::process::id(), "x".repeat(150)));
        std::fs::create_dir(&directory).unwrap();
        let opened = std::fs::File::open(&directory).unwrap();
        let listener = listen(opened.as_fd(), "s.sock").unwrap();
        let client = connect(&directory, "s.sock").unwrap();
        let server = accept(listener.as_fd()).unwrap();
        send(server.as_fd(), b"x", &[], SendFlags::empty()).unwrap();
        assert_eq!(receive(client.as_fd(), &mut [0; 4], RecvFlags::empty()).unwrap().0, 1);
        assert_eq!(peer_uid(server.as_fd()).unwrap(), rustix::process::getuid().as_raw());
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(directory.join("s.sock")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
