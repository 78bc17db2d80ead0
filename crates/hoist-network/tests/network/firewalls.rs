//! Beside the firewalls of others: drop policies of iptables and nft, Docker's chain for users, flushed rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hoist_network::Protocol::Tcp;

use crate::support::{BRIDGE, Machine, can_run, config, publish};

fn has(machine: &Machine, program: &str) -> bool {
    let found = machine.host.sh(&format!("command -v {program} || true"));
    if found.is_empty() {
        println!("skipped: needs {program}");
    }
    !found.is_empty()
}

fn wait_until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < end, "it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn containers_work_where_iptables_drops_what_is_forwarded() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    if !has(&machine, "iptables-nft") {
        return;
    }
    machine.host.sh("iptables-nft -P FORWARD DROP; nft add table inet other; \
         nft 'add chain inet other fw { type filter hook forward priority 0; policy drop; }'");
    let networks = Arc::new(machine.open(config()));
    let (web, _) = machine.start(&networks, vec![publish("", 8080, 80, Tcp)]);
    let (sibling, _) = machine.start(&networks, vec![]);
    web.serve_tcp(80, "web");
    machine.world.serve_tcp(443, "world");
    let all_ways = || {
        machine.world.ask_tcp("198.51.100.1:8080").is_ok()
            && web.ask_tcp("198.51.100.2:443").is_ok()
            && sibling.ask_tcp("172.17.0.2:80").is_ok()
            && sibling.ask_tcp("198.51.100.1:8080").is_ok()
    };
    assert!(all_ways());
    let listed = machine.host.sh("iptables-nft -S FORWARD");
    assert!(
        listed.contains(&format!("-A FORWARD -o {BRIDGE}")) && listed.contains(&format!("hoist {BRIDGE}")),
        "{listed}"
    );
    // A restart adds nothing; a reload by others is noticed and mended.
    let again = machine.open(config());
    assert_eq!(machine.host.sh("iptables-nft -S FORWARD"), listed);
    drop(again);
    machine.host.sh("iptables-nft -F FORWARD; nft flush table inet other");
    wait_until(all_ways);
    machine.host.run(move || networks.remove_all()).unwrap();
    let left = machine.host.sh("nft list ruleset");
    assert!(!left.contains("hoist"), "{left}");
}

#[test]
fn after_all_rules_were_flushed_published_ports_come_back() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    let networks = Arc::new(machine.open(config()));
    let (web, _) = machine.start(&networks, vec![publish("", 8080, 80, Tcp)]);
    web.serve_tcp(80, "web");
    machine.host.sh("nft flush ruleset");
    wait_until(|| machine.world.ask_tcp("198.51.100.1:8080").is_ok_and(|answer| answer == "web 198.51.100.2 HI"));
    machine.host.sh(&format!("nft flush chain inet hoist-{BRIDGE} postrouting"));
    wait_until(|| machine.host.sh("nft list ruleset").contains("masquerade"));
    // What is removed on purpose stays away, whatever else happens.
    machine.host.run(move || networks.remove_all().map(|()| networks)).unwrap();
    machine.host.sh("nft add table inet other; nft delete table inet other");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!machine.host.sh("nft list tables").contains("hoist"));
}

#[test]
fn what_an_engine_left_whose_bridge_is_gone_is_cleared_away_by_the_next() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    if !has(&machine, "iptables-nft") {
        return;
    }
    machine
        .host
        .sh("iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER");
    for bridge in ["hoistt1", "hoistt2"] {
        let db = hoist_db::Db::in_memory().unwrap();
        let config = hoist_network::Config { bridge: bridge.to_owned(), ..config() };
        drop(machine.host.run(|| hoist_network::Networks::open(db, config)).unwrap());
    }
    machine.host.sh("ip link del hoistt1; nft add table inet hoist-; nft add table inet other");
    machine.open(config());
    let left = machine.host.sh("nft list tables; iptables-nft -S");
    assert!(!left.contains("hoistt1") && left.contains("table inet other"), "{left}");
    assert!(left.contains("table inet hoist-hoistt2") && left.contains("-o hoistt2"), "{left}");
}

#[test]
fn rules_of_dockers_users_stay_before_ours() {
    if !can_run() {
        return;
    }
    let machine = Machine::new();
    if !has(&machine, "iptables-nft") {
        return;
    }
    machine
        .host
        .sh("iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; \
         iptables-nft -A DOCKER-USER -p tcp --dport 81 -j DROP; iptables-nft -A DOCKER-USER -j RETURN");
    let networks = Arc::new(machine.open(config()));
    let (web, _) = machine.start(&networks, vec![publish("", 8080, 80, Tcp), publish("", 8081, 81, Tcp)]);
    web.serve_tcp(80, "web");
    web.serve_tcp(81, "hidden");
    assert!(machine.world.ask_tcp("198.51.100.1:8080").is_ok());
    assert!(machine.world.ask_tcp("198.51.100.1:8081").is_err());
    let listed = machine.host.sh("iptables-nft -S DOCKER-USER; iptables-nft -S FORWARD");
    let place = |what: &str| listed.find(what).unwrap_or_else(|| panic!("{what} in {listed}"));
    assert!(place("--dport 81") < place(BRIDGE) && place(BRIDGE) < place("-j RETURN"), "{listed}");
    assert!(!listed.contains(&format!("-A FORWARD -o {BRIDGE}")), "{listed}");
}

#[test]
fn without_icc_containers_reach_only_what_their_siblings_publish() {
    if !can_run() {
        return;
    }
    for bridged_frames_are_filtered in ["1", "0"] {
        let machine = Machine::new();
        let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        machine.host.sh(&format!("[ ! -e {setting} ] || echo {bridged_frames_are_filtered} > {setting}"));
        let networks = Arc::new(machine.open(hoist_network::Config { icc: false, ..config() }));
        let (web, _) = machine.start(&networks, vec![publish("", 8080, 80, Tcp)]);
        let (sibling, _) = machine.start(&networks, vec![]);
        web.serve_tcp(80, "web");
        machine.world.serve_tcp(443, "world");
        assert!(sibling.ask_tcp("172.17.0.2:80").is_err());
        assert_eq!(sibling.ask_tcp("198.51.100.1:8080").unwrap(), "web 172.17.0.1 HI");
        assert_eq!(web.ask_tcp("198.51.100.1:8080").unwrap(), "web 172.17.0.1 HI");
        assert!(sibling.ask_tcp("198.51.100.2:443").is_ok());
    }
}
