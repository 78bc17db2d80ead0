//! Real connections through the bridge, NAT and the firewall, between namespaces made for each test.

use std::sync::Arc;

use crate::support::{BRIDGE, Machine, can_run, config, publish, request};
use hoist_network::Protocol::{Tcp, Udp};

#[test]
fn a_published_port_is_reached_from_outside_from_the_host_and_from_containers() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    let networks = Arc::new(machine.open(config()));
    let ports = vec![publish("", 8080, 80, Tcp), publish("", 8053, 53, Udp)];
    let (web, endpoint) = machine.start(&networks, ports);
    let (sibling, _) = machine.start(&networks, vec![]);
    assert_eq!(endpoint.ip.to_string(), "172.17.0.2");
    assert_eq!(endpoint.mac, "02:42:ac:11:00:02");
    web.serve_tcp(80, "web");
    web.serve_udp(53, "dns");
    // From outside with the client's own address; from inside by way of the host.
    assert_eq!(machine.world.ask_tcp("198.51.100.1:8080").unwrap(), "web 198.51.100.2 HI");
    assert_eq!(machine.world.ask_udp("198.51.100.1:8053").unwrap(), "dns 198.51.100.2 hi");
    assert_eq!(machine.host.ask_tcp("198.51.100.1:8080").unwrap(), "web 198.51.100.1 HI");
    assert_eq!(machine.host.ask_udp("198.51.100.1:8053").unwrap(), "dns 198.51.100.1 hi");
    assert_eq!(machine.host.ask_tcp("172.17.0.2:80").unwrap(), "web 172.17.0.1 HI");
    for client in [&sibling, &web] {
        assert_eq!(client.ask_tcp("198.51.100.1:8080").unwrap(), "web 172.17.0.1 HI");
        assert_eq!(client.ask_tcp("172.17.0.1:8080").unwrap(), "web 172.17.0.1 HI");
        assert_eq!(client.ask_udp("198.51.100.1:8053").unwrap(), "dns 172.17.0.1 hi");
    }
    assert_eq!(sibling.ask_tcp("172.17.0.2:80").unwrap(), "web 172.17.0.3 HI");
}

#[test]
fn containers_reach_the_world_and_the_world_reaches_nothing_unpublished() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    let networks = Arc::new(machine.open(config()));
    let (web, _) = machine.start(&networks, vec![publish("", 8080, 80, Tcp)]);
    machine.world.serve_tcp(443, "world");
    machine.world.serve_udp(53, "world");
    web.serve_tcp(80, "web");
    web.serve_tcp(81, "secret");
    assert_eq!(web.ask_tcp("198.51.100.2:443").unwrap(), "world 198.51.100.1 HI");
    assert_eq!(web.ask_udp("198.51.100.2:53").unwrap(), "world 198.51.100.1 hi");
    // Even who routes straight to the container's address is turned away.
    machine.world.sh("ip route add 172.17.0.0/16 via 198.51.100.1");
    for target in ["172.17.0.2:80", "172.17.0.2:81"] {
        assert!(machine.world.ask_tcp(target).is_err(), "{target}");
    }
    assert_eq!(machine.world.ask_tcp("198.51.100.1:8080").unwrap(), "web 198.51.100.2 HI");
}

#[test]
fn the_devices_are_as_dockers() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    let networks = Arc::new(machine.open(config()));
    let (container, endpoint) = machine.start(&networks, vec![]);
    let inside = container.sh("ip -o addr; ip route; ip -o link");
    assert!(inside.contains("inet 172.17.0.2/16 brd 172.17.255.255 scope global eth0"), "{inside}");
    assert!(inside.contains("default via 172.17.0.1 dev eth0"), "{inside}");
    assert!(inside.contains("172.17.0.0/16 dev eth0 proto kernel scope link src 172.17.0.2"), "{inside}");
    assert!(inside.contains("link/ether 02:42:ac:11:00:02") && !inside.contains("inet6 fe80"), "{inside}");
    let outside = machine.host.sh(&format!("ip -o link show master {BRIDGE}; ip -o addr show {BRIDGE}"));
    assert!(outside.contains(&endpoint.host_device), "{outside}");
    assert!(outside.contains("inet 172.17.0.1/16 brd 172.17.255.255"), "{outside}");
    assert_eq!(machine.host.sh("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    // As many queues as are used; the kernel has a container wait while it takes others out of use.
    let details = container.sh("ip -o -d link show eth0")
        + &machine.host.sh(&format!("ip -o -d link show {}", endpoint.host_device));
    assert_eq!(details.matches("numtxqueues 1 numrxqueues 1 ").count(), 2, "{details}");
}

#[test]
fn loopback_and_ipv6_addresses_of_the_host_reach_a_published_port_through_the_proxy() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    let networks = Arc::new(machine.open(config()));
    let ports = vec![publish("", 8080, 80, Tcp), publish("", 8053, 53, Udp), publish("127.0.0.1", 8081, 80, Tcp)];
    let (web, endpoint) = machine.start(&networks, ports);
    web.serve_tcp(80, "web");
    web.serve_udp(53, "dns");
    for address in ["127.0.0.1:8080", "127.0.0.5:8080", "[::1]:8080", "127.0.0.1:8081", "[2001:db8::1]:8080"] {
        assert_eq!(machine.host.ask_tcp(address).unwrap(), "web 172.17.0.1 HI", "{address}");
    }
    for address in ["127.0.0.1:8053", "[::1]:8053"] {
        assert_eq!(machine.host.ask_udp(address).unwrap(), "dns 172.17.0.1 hi", "{address}");
    }
    assert_eq!(machine.world.ask_tcp("[2001:db8::1]:8080").unwrap(), "web 172.17.0.1 HI");
    assert_eq!(machine.world.ask_udp("[2001:db8::1]:8053").unwrap(), "dns 172.17.0.1 hi");
    // Published on loopback only: nobody else gets in.
    assert!(machine.world.ask_tcp("198.51.100.1:8081").is_err());
    networks.release(&endpoint);
    assert!(machine.host.ask_tcp("127.0.0.1:8080").is_err());
    assert!(machine.world.ask_tcp("198.51.100.1:8080").is_err());
}

#[test]
fn a_container_can_send_the_moment_its_batches_are_acknowledged() {
    if !can_run() || !kernel_is_at_least(6, 8) {
        return;
    }
    let machine = Machine::new();
    let networks = Arc::new(machine.open(config()));
    machine.world.serve_tcp(80, "world");
    let _all: Vec<_> = (0..30)
        .map(|number| {
            let (container, _) = machine.start(&networks, vec![]);
            // Gives up before a lost ARP request would be repeated.
            let answer = container.ask_tcp("198.51.100.2:80");
            assert!(answer.is_ok(), "container {number}: {answer:?}");
            container
        })
        .collect();
}

#[test]
fn a_udp_client_that_keeps_sending_follows_the_port_from_container_to_container() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    let networks = Arc::new(machine.open(config()));
    let client = machine.world.run(|| {
        let socket = std::net::UdpSocket::bind("198.51.100.2:5000").unwrap();
        socket.connect("198.51.100.1:8053").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
        socket
    });
    let answered_by = |name: &str| {
        let mut buffer = [0; 256];
        (0..20).any(|_| {
            let _refused = client.send(b"hi");
            client.recv(&mut buffer).is_ok_and(|length| buffer[..length].starts_with(name.as_bytes()))
        })
    };
    // Nobody is there yet, but the flow is known: it led to the host itself.
    assert!(!answered_by("one 198.51.100.2"));
    let (one, first) = machine.start(&networks, vec![publish("", 8053, 53, Udp)]);
    let (_keeps_the_address_taken, _) = machine.start(&networks, vec![]);
    one.serve_udp(53, "one");
    assert!(answered_by("one 198.51.100.2"));
    networks.release(&first);
    drop(one);
    let other = hoist_network::EndpointRequest {
        ip: Some("172.17.0.9".parse().unwrap()),
        ..request(vec![publish("", 8053, 53, Udp)])
    };
    let allocating = networks.clone();
    let (_, setup) = machine.host.run(move || allocating.allocate(&other)).unwrap();
    let two = machine.wire(&setup);
    two.serve_udp(53, "two");
    assert!(answered_by("two 198.51.100.2"));
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < (major, minor) {
        println!("skipped: needs kernel {major}.{minor}, this is {release}");
    }
    found >= (major, minor)
}
