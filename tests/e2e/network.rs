//! The default bridge, published ports, host and shared namespaces, and the files that name hosts.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use hoist_tests::{Bed, Image, both, eventually};

fn web(t: &Bed, options: &str) -> String {
    t.load_once("nginx:latest", &Image::nginx());
    let name = t.name("web");
    t.cli(&format!("run -d --name {name} {options} nginx")).ok();
    name
}

pub(crate) fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A script that fetches a page. (The wget of a static busybox wants libraries that are not in the image.)
fn fetch(address: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port}")
}

#[track_caller]
fn serves(address: &str) {
    eventually(&format!("{address} answers"), || get(address).is_ok_and(|text| text.contains("Welcome to nginx!")));
}

fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn address(t: &Bed, name: &str) -> String {
    t.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_string()
}

/// An address of this machine that is not loopback.
fn outside_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[test]
fn a_published_port_answers_on_every_address_of_the_host() {
    both(|t| {
        let port = free_port();
        let name = web(t, &format!("-p {port}:80"));
        serves(&format!("127.0.0.1:{port}"));
        serves(&format!("[::1]:{port}"));
        if let Some(address) = outside_address() {
            serves(&format!("{address}:{port}"));
        }
        serves(&format!("{}:80", address(t, &name)));
        t.cli(&format!("port {name}")).ok().prints(&format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}"));
        t.cli(&format!("port {name} 80")).ok().prints(&format!("0.0.0.0:{port}\n[::]:{port}"));
        t.cli(&format!("port {name} 81/udp")).fails_with(1).complains("o public port '81/udp' published");
        assert!(t.cli("ps").ok().row(&name).contains(&format!("0.0.0.0:{port}->80/tcp")));
        t.cli(&format!("rm -f {name}")).ok();
        assert!(get(&format!("127.0.0.1:{port}")).is_err());
    });
}

#[test]
fn ports_can_be_random_ranges_and_bound_to_an_address() {
    both(|t| {
        let name = web(t, "-p 80");
        let port = t.cli(&format!("port {name} 80/tcp")).ok().lines()[0].rsplit(':').next().unwrap().to_string();
        assert!(port.parse::<u16>().unwrap() >= 1024);
        serves(&format!("127.0.0.1:{port}"));
        let name = web(t, "-P");
        let mapped = t.cli(&format!("port {name}")).ok().matches(r"^80/tcp -> 0\.0\.0\.0:\d+$");
        serves(&format!("127.0.0.1:{}", mapped.lines()[0].rsplit(':').next().unwrap()));
        let port = free_port();
        let name = web(t, &format!("-p 127.0.0.1:{port}:80"));
        serves(&format!("127.0.0.1:{port}"));
        t.cli(&format!("port {name} 80")).ok().prints(&format!("127.0.0.1:{port}"));
        if let Some(address) = outside_address() {
            assert!(get(&format!("{address}:{port}")).is_err(), "a port of loopback answers on {address}");
        }
        let port = free_port().min(65000);
        let name = web(t, &format!("-p {port}-{}:80-81", port + 1));
        serves(&format!("127.0.0.1:{port}"));
        t.cli(&format!("port {name} 81")).ok().says(&format!("0.0.0.0:{}", port + 1));
    });
}

#[test]
fn a_port_that_another_container_has_is_refused_and_leaves_nothing() {
    both(|t| {
        let port = free_port();
        let first = web(t, &format!("-p {port}:80"));
        let second = t.name("second");
        let refused = t.cli(&format!("run -d --name {second} -p {port}:80 nginx")).fails_with(125);
        // dockerd names the IPv4 or the IPv6 address, whichever it came to first.
        refused.complains(&format!(":{port} failed: port is already allocated"));
        t.cli(&format!("rm {second}")).ok();
        serves(&format!("127.0.0.1:{port}"));
        t.cli(&format!("rm -f {first}")).ok();
        web(t, &format!("-p {port}:80"));
        serves(&format!("127.0.0.1:{port}"));
    });
}

#[test]
fn a_port_that_a_process_of_the_host_has_is_refused() {
    both(|t| {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = t.cli(&format!("run --rm -p {port}:80 busybox true")).fails_with(125);
        refused.complains(&port.to_string()).complains("address already in use");
    });
}

#[test]
fn wrong_ports_are_refused() {
    both(|t| {
        t.cli("run --rm -p 99999:80 busybox true").fails_with(125).complains("99999");
        t.cli("run --rm -p 80:nonsense busybox true").fails_with(125).complains("nonsense");
        t.cli("run --rm -p 1-3:80-81 busybox true").fails_with(125);
        t.cli("run --rm -p 300.0.0.1:1:80 busybox true").fails_with(125);
        t.cli("run --rm -p 80:80/nonsense busybox true").fails_with(125).complains("nonsense");
    });
}

#[test]
fn udp_is_published_too() {
    both(|t| {
        let port = free_port();
        crate::load_inside(t);
        let name = t.name("udp");
        t.cli(&format!("run -d --name {name} -p {port}:9/udp inside inside udp-echo 9")).ok();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut buffer = [0; 16];
        eventually("the echo comes", || {
            let _ = socket.send_to(b"ping", ("127.0.0.1", port));
            socket.recv(&mut buffer).is_ok_and(|count| &buffer[..count] == b"ping")
        });
        t.cli(&format!("port {name}")).ok().says("9/udp -> ");
    });
}

#[test]
fn containers_reach_each_other_by_address_and_through_published_ports() {
    both(|t| {
        let port = free_port();
        let name = web(t, &format!("-p {port}:80"));
        let address = address(t, &name);
        let page = |address: &str, port: u16| t.args(&["run", "--rm", "busybox", "sh", "-c", &fetch(address, port)]);
        eventually("it serves", || page(&address, 80).code == 0);
        page(&address, 80).ok().says("Welcome to nginx!");
        let gateway =
            t.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["Gateway"].as_str().unwrap().to_string();
        page(&gateway, port).ok().says("Welcome to nginx!");
    });
}

#[test]
fn a_container_reaches_a_server_of_the_host_through_its_gateway() {
    both(|t| {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            let _ = stream.write_all(b"from the host\n");
            from
        });
        let script = format!(
            "gateway=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); nc -w 5 $gateway {port} </dev/null"
        );
        t.args(&["run", "--rm", "busybox", "sh", "-c", &script]).ok().prints("from the host");
        server.join().unwrap();
    });
}

#[test]
fn the_interface_is_eth0_with_an_address_a_route_and_loopback() {
    both(|t| {
        let name = t.name("eth0");
        t.cli(&format!("run -d --name {name} busybox sleep 1000")).ok();
        let network = t.inspect(&name)["NetworkSettings"]["Networks"]["bridge"].clone();
        let (ip, gateway) = (network["IPAddress"].as_str().unwrap(), network["Gateway"].as_str().unwrap());
        t.cli(&format!("exec {name} ip addr show eth0")).ok().says(&format!("inet {ip}/{}", network["IPPrefixLen"]));
        t.cli(&format!("exec {name} ip addr show lo")).ok().says("inet 127.0.0.1/8");
        t.cli(&format!("exec {name} ip route")).ok().says(&format!("default via {gateway} dev eth0"));
        t.cli(&format!("exec {name} cat /sys/class/net/eth0/address"))
            .ok()
            .prints(network["MacAddress"].as_str().unwrap());
        t.cli(&format!("exec {name} ping -c 1 -W 5 {gateway}")).ok();
    });
}

#[test]
fn no_network_is_loopback_only() {
    both(|t| {
        let ran = t.cli("run --rm --network none busybox ip -o addr").ok();
        assert!(ran.stdout.contains("127.0.0.1/8") && !ran.stdout.contains("eth0"), "{ran}");
    });
}

#[test]
fn the_hosts_network_is_the_hosts() {
    both(|t| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || listener.accept().map(|(mut stream, _)| stream.write_all(b"seen\n")));
        t.cli(&format!("run --rm --network host busybox sh -c 'nc -w 5 127.0.0.1 {port} </dev/null'"))
            .ok()
            .prints("seen");
        server.join().unwrap().unwrap().unwrap();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        t.cli("run --rm --network host busybox hostname").ok().prints(&host);
    });
}

#[test]
fn a_container_can_join_the_network_of_another() {
    both(|t| {
        let name = web(t, "");
        eventually("it serves", || {
            let network = format!("container:{name}");
            t.args(&["run", "--rm", "--network", &network, "busybox", "sh", "-c", &fetch("127.0.0.1", 80)]).code == 0
        });
        let joined = t.cli(&format!("run --rm --network container:{name} busybox hostname")).ok();
        joined.prints(t.cli(&format!("exec {name} hostname")).text());
        let (stopped, own) = (t.name("stopped"), t.name("own"));
        t.cli(&format!("create --name {stopped} busybox")).ok();
        t.cli(&format!("create --name {own} --network container:{own} busybox")).ok();
        for (command, text) in [
            (
                format!("run --rm --network container:{stopped} busybox true"),
                format!("cannot join network namespace of a non running container: container {stopped} is created"),
            ),
            (format!("start {own}"), "cannot join own network namespace".to_string()),
        ] {
            t.cli(&command).fails().complains(&text);
        }
        t.cli(&format!("run --rm --network container:{name} -p 80:80 busybox true")).fails_with(125);
        t.cli(&format!("run --rm --network container:{name} -h other busybox true")).fails_with(125);
    });
}

#[test]
fn the_files_that_name_hosts_are_written_as_docker_writes_them() {
    both(|t| {
        let options =
            "--add-host some.host:10.9.8.7 --dns 192.0.2.53 --dns-search example.test --dns-opt ndots:3 -h box";
        let ran = t.cli(&format!("run --rm {options} busybox cat /etc/hosts /etc/resolv.conf /etc/hostname")).ok();
        ran.clone().says("127.0.0.1\tlocalhost").says("::1\tlocalhost ip6-localhost ip6-loopback");
        ran.clone().says("10.9.8.7\tsome.host").matches(r"^[0-9.]+\tbox$").matches("^box$");
        ran.says("nameserver 192.0.2.53\nsearch example.test\noptions ndots:3\n\n# Based on host file: ")
            .says(" (legacy)\n# Overrides: [nameservers search options]\n# Option ndots from: override\n");
        let shared = t.cli("run --rm --network host busybox cat /etc/resolv.conf").ok();
        shared.says("\n# Based on host file: '/etc/resolv.conf'\n").says("# Overrides: []\n");
        let gateway = t.cli("run --rm --add-host outside:host-gateway busybox cat /etc/hosts").ok();
        gateway.matches(r"^[0-9.]+\toutside$");
        t.cli("run --rm --add-host nonsense busybox true").fails_with(125).complains("nonsense");
        t.cli("run --rm busybox sh -c 'echo 10.1.1.1 mine >> /etc/hosts; grep mine /etc/hosts'").ok();
    });
}

#[test]
fn loopback_resolvers_of_the_host_do_not_reach_the_container() {
    both(|t| {
        t.cli("run --rm busybox cat /etc/resolv.conf").ok().says("nameserver").says_not("nameserver 127.0.0.53");
    });
}

#[test]
fn many_containers_have_different_addresses() {
    both(|t| {
        let names: Vec<String> = (0..6).map(|_| t.name("many")).collect();
        let runs: Vec<_> =
            names.iter().map(|name| t.spawn(&format!("run -d --name {name} busybox sleep 1000"))).collect();
        for run in runs {
            run.finish().ok();
        }
        let mut addresses: Vec<String> = names.iter().map(|name| address(t, name)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 6);
        let first = t.cli(&format!("exec {} ping -c 1 -W 5 {}", names[0], address(t, &names[5])));
        first.ok();
    });
}
