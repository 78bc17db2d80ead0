//! A machine made of namespaces: each [`Netns`] is a thread in a network namespace of its own that runs what it is given.
//! A "host" runs the code under test, "containers" get the netlink bytes, a "world" is what is outside.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hoist_db::Db;
use hoist_network::{Config, Endpoint, EndpointRequest, Networks, PortRequest, Protocol, Setup};
use hoist_sys::netlink::{Protocol as NetlinkProtocol, Socket};

type Job = Box<dyn FnOnce() + Send>;

pub(crate) const BRIDGE: &str = "hoistt0";
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// A thread in its own network namespace.
pub(crate) struct Netns {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) file: File,
    pub(crate) tid: i32,
}

impl Netns {
    pub(crate) fn new() -> Netns {
        let (jobs, todo) = channel::<Job>();
        let (ready, when_ready) = channel();
        let thread = std::thread::spawn(move || {
            // The safe form of unshare is deprecated for flags that share memory or files; a namespace is none of them.
            #[allow(deprecated)]
            rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
            let file = File::open("/proc/thread-self/ns/net").unwrap();
            ready.send((file, rustix::thread::gettid().as_raw_nonzero().get())).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let (file, tid) = when_ready.recv().expect("a new network namespace");
        Netns { jobs: Some(jobs), thread: Some(thread), file, tid }
    }

    /// Runs `job` inside and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = move || {
            let _receiver_panicked = done.send(job());
        };
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        result.recv().expect("the job panicked")
    }

    /// Runs a shell command inside; its output.
    pub(crate) fn sh(&self, command: &str) -> String {
        let command = command.to_owned();
        self.run(move || {
            let output = Command::new("sh").args(["-c", &command]).output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{command}: {err}");
            out.into_owned()
        })
    }

    /// Starts a TCP server that answers each connection with `name` and then with what it got, in upper case.
    pub(crate) fn serve_tcp(&self, port: u16, name: &'static str) {
        let listener = self.run(move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let peer = stream.peer_addr().unwrap().ip();
                    let mut got = Vec::new();
                    // Answers only after the end of the request: what proves that half-closing goes through.
                    let _reset = stream.read_to_end(&mut got);
                    let text = format!("{name} {peer} {}", String::from_utf8_lossy(&got).to_uppercase());
                    let _reset = stream.write_all(text.as_bytes());
                });
            }
        });
    }

    pub(crate) fn serve_udp(&self, port: u16, name: &'static str) {
        let socket = self.run(move || UdpSocket::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let text = format!("{name} {} ", peer.ip());
                let _gone = socket.send_to(&[text.as_bytes(), &buffer[..length]].concat(), peer);
            }
        });
    }

    /// Connects from inside, sends "hi", returns the answer.
    pub(crate) fn ask_tcp(&self, to: &str) -> std::io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(700))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"hi")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    pub(crate) fn ask_udp(&self, to: &str) -> std::io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_millis(700)))?;
            socket.send(b"hi")?;
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _panicked = self.thread.take().unwrap().join();
    }
}

/// A host namespace with an engine's networks, connected to a `world` namespace: 198.51.100.1 here, .2 there.
pub(crate) struct Machine {
    pub(crate) host: Netns,
    pub(crate) world: Netns,
    pub(crate) db: Db,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let (host, world) = (Netns::new(), Netns::new());
        host.sh("ip link set lo up");
        host.sh(&format!("ip link add w0 type veth peer name w1 netns {}", world.tid));
        host.sh("ip addr add 198.51.100.1/24 dev w0; ip addr add 2001:db8::1/64 dev w0 nodad; ip link set w0 up");
        world.sh("ip addr add 198.51.100.2/24 dev w1; ip addr add 2001:db8::2/64 dev w1 nodad; ip link set w1 up");
        world.sh("ip link set lo up; ip link show w1");
        // Looking at a device makes the kernel notice its carrier now.
        host.sh("ip link show w0");
        Machine { host, world, db: Db::in_memory().unwrap() }
    }

    pub(crate) fn open(&self, config: Config) -> Networks {
        let db = self.db.clone();
        self.host.run(move || Networks::open(db, config)).unwrap()
    }

    /// A container: a namespace wired up as the runtime would do it.
    pub(crate) fn start(&self, networks: &std::sync::Arc<Networks>, ports: Vec<PortRequest>) -> (Netns, Endpoint) {
        let (endpoint, setup) = self.allocate(networks, ports).unwrap();
        (self.wire(&setup), endpoint)
    }

    pub(crate) fn allocate(
        &self,
        networks: &std::sync::Arc<Networks>,
        ports: Vec<PortRequest>,
    ) -> Result<(Endpoint, Setup), hoist_network::Error> {
        let networks = networks.clone();
        self.host.run(move || networks.allocate(&request(ports)))
    }

    /// Does the runtime's part.
    pub(crate) fn wire(&self, setup: &Setup) -> Netns {
        let container = Netns::new();
        let mut batch = setup.host_batch.clone();
        let number = u32::try_from(container.file.as_raw_fd()).unwrap();
        setup.netns_fd_at.iter().for_each(|&at| batch[at..at + 4].copy_from_slice(&number.to_ne_bytes()));
        self.host.run(move || {
            Socket::open(NetlinkProtocol::Route).unwrap().send_batch_detailed(&batch).unwrap().expect("host batch");
        });
        let batch = setup.netns_batch.clone();
        container.run(move || {
            Socket::open(NetlinkProtocol::Route).unwrap().send_batch_detailed(&batch).unwrap().expect("netns batch");
        });
        container
    }
}

pub(crate) fn config() -> Config {
    Config {
        bridge: BRIDGE.to_owned(),
        bip: None,
        fixed_cidr: None,
        default_address_pools: Vec::new(),
        mtu: 0,
        icc: true,
        default_publish_ip: None,
        without_proxy: false,
    }
}

pub(crate) fn request(ports: Vec<PortRequest>) -> EndpointRequest {
    EndpointRequest { container_id: "c1".to_owned(), network: "bridge".to_owned(), ip: None, mac: None, ports }
}

/// `HOST:PORT:PORT/PROTOCOL`; port 0: any.
pub(crate) fn publish(host_ip: &str, host_port: u16, container_port: u16, protocol: Protocol) -> PortRequest {
    let host_ip = if host_ip.is_empty() { None } else { Some(host_ip.parse().unwrap()) };
    PortRequest { container_port, protocol, host_ip, host_ports: (host_port, host_port) }
}

/// Whether tests that need root and namespaces can run; says so if not.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root for network namespaces");
    }
    root
}
