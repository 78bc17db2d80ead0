//! A small netlink(7) socket: sends batches and collects acknowledgements, runs dumps. Owns the framing (`nlmsghdr`),
//! not the meaning of messages: these come complete from the caller.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::syscall;

/// The netlink families that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// rtnetlink(7): links, addresses, routes.
    Route,
    /// nfnetlink: nf_tables, conntrack.
    Netfilter,
}

/// A netlink socket bound to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// The first message of a batch that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("netlink message {index} of the batch: {}{}", io::Error::from_raw_os_error(*errno),
        if text.is_empty() { String::new() } else { format!(" ({text})") })]
pub struct BatchError {
    pub errno: i32,
    /// Index of the refused message in the batch; 0 also when the batch as a whole was refused.
    pub index: usize,
    /// The kernel's own words (extended ack), often empty.
    pub text: String,
}

const HEADER_BYTES: usize = 16;
const ANSWER_TIMEOUT_S: i64 = 10;
/// How long a dump is taken again while others change what it lists, as when hundreds of containers are being removed.
const DUMP_PATIENCE: Duration = Duration::from_secs(10);
const DUMP_LONGEST_PAUSE: Duration = Duration::from_millis(64);

impl Socket {
    /// Opens and binds a socket; its port number is chosen by the kernel.
    pub fn open(protocol: Protocol) -> io::Result<Socket> {
        let number = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Netfilter => libc::NETLINK_NETFILTER,
        };
        // SAFETY: socket(2) takes no pointers.
        let raw =
            syscall::check(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, number) })?;
        // SAFETY: `raw` is a new fd that nobody else owns.
        let socket = Socket { fd: unsafe { OwnedFd::from_raw_fd(raw) } };
        // SAFETY: sockaddr_nl is plain data for which all zeros is a valid value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        // SAFETY: pointer and length describe `address`, which outlives the call.
        syscall::check(unsafe {
            libc::bind(raw, (&raw const address).cast(), size_of::<libc::sockaddr_nl>() as libc::socklen_t)
        })?;
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1i32)?;
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1i32)?;
        // Errors of big batches come all at once; without room the kernel drops them and says ENOBUFS.
        if socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4i32 << 20).is_err() {
            socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, 4i32 << 20)?;
        }
        let timeout = libc::timeval { tv_sec: ANSWER_TIMEOUT_S, tv_usec: 0 };
        socket.set_option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, timeout)?;
        Ok(socket)
    }

    /// Sends complete messages in one sendmsg(2) and waits for as many acks as messages ask for one (`NLM_F_ACK`).
    /// Returns the first error; the messages after a refused one may have taken effect (rtnetlink) or not (nf_tables).
    pub fn send_batch(&self, batch: &[u8]) -> io::Result<()> {
        self.send_batch_detailed(batch)?.map_err(|error| io::Error::from_raw_os_error(error.errno))
    }

    /// As [`Socket::send_batch`]; the inner error tells which message the kernel refused and why.
    pub fn send_batch_detailed(&self, batch: &[u8]) -> io::Result<Result<(), BatchError>> {
        let mut sequences = Vec::new();
        let mut pending = 0usize;
        for message in Messages(batch) {
            let message = message?;
            sequences.push(message.sequence());
            pending += usize::from(message.flags() & libc::NLM_F_ACK as u16 != 0);
        }
        if sequences.is_empty() {
            return Ok(Ok(()));
        }
        self.drain()?;
        self.send(batch)?;
        let mut first: Option<BatchError> = None;
        let mut buffer = Vec::new();
        while pending > 0 || first.is_some() {
            // After an error the number of acks is no longer known; but all answers were queued during sendmsg.
            let flags = if first.is_some() { libc::MSG_DONTWAIT } else { 0 };
            let received = match self.receive(&mut buffer, flags) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && first.is_some() => break,
                Err(error) => return Err(error),
            };
            for message in Messages(&buffer[..received]) {
                let message = message?;
                if message.kind() != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                pending = pending.saturating_sub(1);
                let errno = message.errno();
                if errno != 0 && first.is_none() {
                    let index = sequences.iter().position(|sequence| *sequence == message.sequence()).unwrap_or(0);
                    first = Some(BatchError { errno, index, text: message.extended_text() });
                }
            }
        }
        Ok(first.map_or(Ok(()), Err))
    }

    /// Sends one request (usually with `NLM_F_DUMP`) and returns the answer's messages, each with its header.
    /// A dump that changed while it was taken is taken again.
    pub fn request_dump(&self, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
        loop {
            if let Some(messages) = self.dump_once(request)? {
                return Ok(messages);
            }
            if start.elapsed() > DUMP_PATIENCE {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "what is listed has changed all the time"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(DUMP_LONGEST_PAUSE);
        }
    }

    fn dump_once(&self, request: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
        let flags = Messages(request).next().transpose()?.map_or(0, |message| message.flags());
        let dump = flags & libc::NLM_F_DUMP as u16 == libc::NLM_F_DUMP as u16;
        let until_ack = !dump && flags & libc::NLM_F_ACK as u16 != 0;
        self.drain()?;
        self.send(request)?;
        let mut answers = Vec::new();
        let mut interrupted = false;
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let received = self.receive(&mut buffer, 0)?;
            for message in Messages(&buffer[..received]) {
                let message = message?;
                interrupted |= message.flags() & libc::NLM_F_DUMP_INTR as u16 != 0;
                match message.kind() as i32 {
                    libc::NLMSG_DONE => {
                        let errno = message.errno();
                        if errno != 0 {
                            return Err(io::Error::from_raw_os_error(errno));
                        }
                        return Ok((!interrupted).then_some(answers));
                    }
                    libc::NLMSG_ERROR if message.errno() != 0 => {
                        return Err(io::Error::from_raw_os_error(message.errno()));
                    }
                    libc::NLMSG_ERROR => return Ok(Some(answers)),
                    libc::NLMSG_NOOP => {}
                    _ => {
                        answers.push(message.0.to_vec());
                        if !dump && !until_ack && message.flags() & libc::NLM_F_MULTI as u16 == 0 {
                            return Ok(Some(answers));
                        }
                    }
                }
            }
        }
    }

    fn set_option<T: Copy>(&self, level: i32, name: i32, value: T) -> io::Result<()> {
        // SAFETY: pointer and length describe `value`, which outlives the call.
        syscall::check(unsafe {
            let length = size_of::<T>() as libc::socklen_t;
            libc::setsockopt(self.fd.as_raw_fd(), level, name, (&raw const value).cast(), length)
        })?;
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > 100 * 1024 {
            let size = i32::try_from(bytes.len().saturating_mul(2)).unwrap_or(i32::MAX);
            if self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size).is_err() {
                self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, size)?;
            }
        }
        // SAFETY: pointer and length describe `bytes`.
        let sent = syscall::retry(|| unsafe {
            libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL)
        })?;
        if sent as usize != bytes.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "netlink took only a part of the batch"));
        }
        Ok(())
    }

    /// One datagram; grows `buffer` to fit.
    fn receive(&self, buffer: &mut Vec<u8>, flags: i32) -> io::Result<usize> {
        // SAFETY: a null buffer of length 0 is never written; MSG_TRUNC|MSG_PEEK only returns the datagram's length.
        let length = syscall::retry(|| unsafe {
            libc::recv(self.fd.as_raw_fd(), std::ptr::null_mut(), 0, flags | libc::MSG_PEEK | libc::MSG_TRUNC)
        })? as usize;
        if length > buffer.len() {
            buffer.resize(length, 0);
        }
        // SAFETY: pointer and length describe `buffer`.
        let received = syscall::retry(|| unsafe {
            libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags)
        })?;
        Ok(received as usize)
    }

    /// Throws away late answers of an earlier request.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            match self.receive(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // ENOBUFS tells that answers were lost, which is what is wanted here.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
/// Reads everything that there is to read in bytes from a socket, for the crate's fuzzing entry points.
pub(crate) fn read_all(bytes: &[u8]) {
    let mut left = bytes.len();
    for message in Messages(bytes).flatten() {
        left = left.checked_sub(message.0.len()).unwrap_or_else(|| panic!("messages longer than what they came in"));
        let _ = (message.kind(), message.flags(), message.sequence(), message.errno(), message.extended_text());
    }
}

/// One message with its header.
struct Message<'a>(&'a [u8]);

impl Message<'_> {
    fn u16_at(&self, at: usize) -> u16 {
        self.0.get(at..at + 2).map_or(0, |bytes| u16::from_ne_bytes([bytes[0], bytes[1]]))
    }

    fn u32_at(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn kind(&self) -> u16 {
        self.u16_at(4)
    }

    fn flags(&self) -> u16 {
        self.u16_at(6)
    }

    fn sequence(&self) -> u32 {
        self.u32_at(8)
    }

    /// The positive errno of NLMSG_ERROR and NLMSG_DONE.
    fn errno(&self) -> i32 {
        (self.u32_at(HEADER_BYTES) as i32).wrapping_neg()
    }

    /// NLMSGERR_ATTR_MSG; its place is known because NETLINK_CAP_ACK leaves out the refused message's payload.
    fn extended_text(&self) -> String {
        const NLM_F_CAPPED: u16 = 0x100;
        const NLM_F_ACK_TLVS: u16 = 0x200;
        const NLMSGERR_ATTR_MSG: u16 = 1;
        if self.flags() & NLM_F_ACK_TLVS == 0 {
            return String::new();
        }
        let mut at = HEADER_BYTES + 4 + HEADER_BYTES;
        if self.flags() & NLM_F_CAPPED == 0 {
            at += align(self.u32_at(HEADER_BYTES + 4) as usize).saturating_sub(HEADER_BYTES);
        }
        while at + 4 <= self.0.len() {
            let length = self.u16_at(at) as usize;
            if length < 4 || at + length > self.0.len() {
                break;
            }
            if self.u16_at(at + 2) & 0x3fff == NLMSGERR_ATTR_MSG {
                let text = &self.0[at + 4..at + length];
                return String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or(text)).into_owned();
            }
            at += align(length);
        }
        String::new()
    }
}

/// Splits bytes into messages.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = io::Result<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = Message(self.0).u32_at(0) as usize;
        if length < HEADER_BYTES || length > self.0.len() {
            self.0 = &[];
            return Some(Err(io::Error::new(io::ErrorKind::InvalidData, "malformed netlink message")));
        }
        let message = Message(&self.0[..length]);
        self.0 = &self.0[align(length).min(self.0.len())..];
        Some(Ok(message))
    }
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: i32, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&((HEADER_BYTES + payload.len()) as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_dump_of_links_contains_the_loopback_device() {
        let socket = Socket::open(Protocol::Route).unwrap();
        let links = socket.request_dump(&message(libc::RTM_GETLINK, libc::NLM_F_DUMP, 1, &[0; 16])).unwrap();
        assert!(links.iter().any(|link| link.windows(3).any(|bytes| bytes == b"lo\0")));
    }

    #[test]
    fn the_first_refused_message_of_a_batch_is_told() {
        let socket = Socket::open(Protocol::Route).unwrap();
        let mut unknown_index = [0u8; 16];
        unknown_index[4..8].copy_from_slice(&0x7fff_0000u32.to_ne_bytes());
        let mut batch =
            message(libc::RTM_GETLINK, libc::NLM_F_ACK, 7, &[&[0u8; 4][..], &1u32.to_ne_bytes(), &[0; 8]].concat());
        batch.extend(message(libc::RTM_GETLINK, libc::NLM_F_ACK, 8, &unknown_index));
        let error = socket.send_batch_detailed(&batch).unwrap().unwrap_err();
        assert_eq!((error.errno, error.index), (libc::ENODEV, 1));
        assert_eq!(socket.send_batch(&batch).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(socket.send_batch(&[]).is_ok());
    }

    #[test]
    fn malformed_bytes_are_refused_before_they_are_sent() {
        let socket = Socket::open(Protocol::Route).unwrap();
        assert_eq!(socket.send_batch(&[1, 2, 3]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
