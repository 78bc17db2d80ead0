//! The proxy alone, on loopback sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A proxy of one TCP port to `target`, and where it listens.
fn tcp_proxy(target: SocketAddr) -> (Proxy, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let proxy = Proxy::new().unwrap();
    proxy.serve("e", Protocol::Tcp, listener.into(), v4(target)).unwrap();
    (proxy, at)
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("loopback tests bind IPv4 addresses"),
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn each_direction_of_a_connection_ends_on_its_own() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (_proxy, at) = tcp_proxy(server.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(b"welcome").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        got
    });
    let mut client = connect(at);
    let mut got = String::new();
    client.read_to_string(&mut got).unwrap();
    client.write_all(b"still here").unwrap();
    drop(client);
    assert_eq!((got.as_str(), server.join().unwrap().as_str()), ("welcome", "still here"));
}

#[test]
fn a_slow_reader_gets_all_of_a_large_answer_and_the_proxy_stays_small() {
    const BYTES: usize = 32 << 20;
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (proxy, at) = tcp_proxy(server.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let chunk: Vec<u8> = (0..=250).cycle().take(251 * 400).collect();
        let mut left = BYTES;
        while left > 0 {
            let some = left.min(chunk.len());
            stream.write_all(&chunk[..some]).unwrap();
            left -= some;
        }
    });
    let mut client = connect(at);
    thread::sleep(Duration::from_millis(200));
    let pending: usize = proxy.shared.lock().entries.values().map(Entry::pending_bytes).sum();
    assert!(pending <= 2 * CHUNK_BYTES, "{pending} bytes kept");
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), BYTES);
    assert!(got.iter().enumerate().all(|(index, byte)| usize::from(*byte) == index % 251));
}

impl Entry {
    fn pending_bytes(&self) -> usize {
        match self {
            Entry::Pair { pair, .. } => pair.pending_bytes(),
            _ => 0,
        }
    }
}

#[test]
fn a_client_is_reset_when_nobody_listens_behind_and_the_port_goes_on() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = server.local_addr().unwrap();
    drop(server);
    let (proxy, at) = tcp_proxy(target);
    let error = connect(at).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let server = TcpListener::bind(target).unwrap();
    let mut client = connect(at);
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    server.accept().unwrap().0.read_exact(&mut byte).unwrap();
    drop(client);
    wait_until(|| proxy.shared.lock().entries.len() == 1);
    assert_eq!(proxy.shared.lock().connections, 0);
}

#[test]
fn withdrawing_frees_the_port_at_once_and_ends_its_connections() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (proxy, at) = tcp_proxy(server.local_addr().unwrap());
    let mut client = connect(at);
    client.write_all(b"x").unwrap();
    let _upstream = server.accept().unwrap();
    proxy.withdraw("other");
    assert_eq!(proxy.shared.lock().entries.len(), 3);
    proxy.withdraw("e");
    TcpListener::bind(at).unwrap();
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert_eq!(proxy.shared.lock().entries.len(), 0);
}

#[test]
fn without_room_for_connections_clients_wait_until_there_is() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (proxy, at) = tcp_proxy(server.local_addr().unwrap());
    proxy.shared.lock().max_connections = 2;
    let clients: Vec<TcpStream> = (0..4).map(|_| connect(at)).collect();
    let first: Vec<_> = (0..2).map(|_| server.accept().unwrap()).collect();
    server.set_nonblocking(true).unwrap();
    thread::sleep(Duration::from_millis(250));
    assert!(server.accept().is_err());
    drop((clients, first));
    server.set_nonblocking(false).unwrap();
    connect(at).write_all(b"x").unwrap();
    server.accept().unwrap();
}

#[test]
fn each_udp_client_has_its_own_session_which_ends_when_idle() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let at = socket.local_addr().unwrap();
    let proxy = Proxy::new().unwrap();
    proxy.serve("e", Protocol::Udp, socket.into(), v4(server.local_addr().unwrap())).unwrap();
    let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    for (index, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(&[u8::try_from(index).unwrap()], at).unwrap();
    }
    let mut buffer = [0; 16];
    for _ in &clients {
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], peer).unwrap();
    }
    for (index, client) in clients.iter().enumerate() {
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (1, at));
        assert_eq!(usize::from(buffer[0]), index);
    }
    assert_eq!(proxy.shared.lock().entries.len(), 4);
    proxy.shared.lock().drop_idle(Instant::now() + Duration::from_secs(91));
    let table = proxy.shared.lock();
    assert_eq!((table.entries.len(), table.sessions), (1, 0));
    drop(table);
    proxy.withdraw("e");
    UdpSocket::bind(at).unwrap();
}

fn wait_until(condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "it did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}
