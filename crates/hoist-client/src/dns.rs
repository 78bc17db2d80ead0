//! The smallest stub resolver that reaches an engine by name: one A and one AAAA question per name server over UDP.
//! Search domains, TCP fallback and caching are left out: a host name given to `-H` is expected to be complete.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(3);
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

pub(super) fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    let config = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = config.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no name server"));
    for server in servers {
        match ask(server, host) {
            Ok(found) if !found.is_empty() => return Ok(found),
            Ok(_) => last = io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host")),
            Err(error) => last = io::Error::new(error.kind(), format!("lookup {host} on {server}: {error}")),
        }
    }
    Err(last)
}

fn ask(server: IpAddr, host: &str) -> io::Result<Vec<IpAddr>> {
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut found = Vec::new();
    for kind in [TYPE_A, TYPE_AAAA] {
        socket.send(&question(host, kind)?)?;
        let mut packet = [0; 1500];
        let length = socket.recv(&mut packet)?;
        found.extend(answers(&packet[..length], kind).unwrap_or_default());
    }
    Ok(found)
}

fn question(host: &str, kind: u16) -> io::Result<Vec<u8>> {
    let id = kind ^ std::process::id() as u16;
    let mut packet = Vec::with_capacity(host.len() + 18);
    packet.extend(id.to_be_bytes());
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        let Some(length) = length else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{host} is not a host name")));
        };
        packet.push(length);
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    Ok(packet)
}

/// Addresses of `kind` in an answer; `None` when the packet is not well formed.
fn answers(packet: &[u8], kind: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (questions, count) = (word(4)?, word(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = skip_name(packet, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..count {
        at = skip_name(packet, at)?;
        let (record, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = packet.get(at + 10..at + 10 + length)?;
        if record == kind {
            if let Ok(octets) = <[u8; 4]>::try_from(data) {
                found.push(Ipv4Addr::from(octets).into());
            } else if let Ok(octets) = <[u8; 16]>::try_from(data) {
                found.push(Ipv6Addr::from(octets).into());
            }
        }
        at += 10 + length;
    }
    Some(found)
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_compressed_name_gives_its_address() {
        let mut packet = question("a.example", TYPE_A).unwrap();
        packet[7] = 1;
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        assert_eq!(answers(&packet, TYPE_A).unwrap(), [IpAddr::from([192, 0, 2, 7])]);
        assert_eq!(answers(&packet[..packet.len() - 2], TYPE_A), None);
    }
}
