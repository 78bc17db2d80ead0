//! What a container shares with its host: network devices, mounts that spread.

use std::path::Path;

use hoist_runtime::launch::NetworkSetup;
use hoist_runtime::spawner::Spawner;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::Test;
use super::container::{Container, wait_for};

pub(crate) const TESTS: &[Test] = &[
    ("a_veth_is_born_in_the_container_and_configured_before_the_program_runs", network),
    ("a_network_that_cannot_be_made_says_why_and_leaves_nothing", network_failure),
    ("mounts_spread_as_their_propagation_says", propagation),
    ("a_link_in_the_place_of_a_subpath_leads_nowhere_outside_of_the_source", subpath),
    ("mounts_that_the_host_made_after_the_spawner_was_started_are_seen", later_mounts),
];

const NEWLINK: u16 = 16;
const NEWADDR: u16 = 20;
const NESTED: u16 = 0x8000;

/// A netlink message with one header struct and attributes.
fn message(kind: u16, create: bool, header: &[u8], attributes: &[u8]) -> Vec<u8> {
    let flags: u16 = 1 | 4 | if create { 0x400 | 0x200 } else { 0 };
    let length = (16 + header.len() + attributes.len()) as u32;
    [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &[7, 0, 0, 0, 0, 0, 0, 0],
        header,
        attributes,
    ]
    .concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [&((4 + value.len()) as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg`, up when told so.
fn link(index: i32, up: bool) -> Vec<u8> {
    let up = u32::from(up).to_ne_bytes();
    [&[0; 4][..], &index.to_ne_bytes(), &up, &up].concat()
}

/// A veth pair whose peer is eth0 with index 2 in the container; 10.9.8.7/24.
fn setup(name: &str) -> NetworkSetup {
    let marker = 0x5eed_5eed_u32.to_ne_bytes();
    let peer = [link(2, false), attribute(3, b"eth0\0"), attribute(28, &marker)].concat();
    let info = [attribute(1, b"veth\0"), attribute(2 | NESTED, &attribute(1 | NESTED, &peer))].concat();
    let attributes = [attribute(3, name.as_bytes()), attribute(18 | NESTED, &info)].concat();
    let host_batch = message(NEWLINK, true, &link(0, true), &attributes);
    let at = host_batch.windows(4).position(|window| window == marker).unwrap();
    let address = [attribute(2, &[10, 9, 8, 7]), attribute(1, &[10, 9, 8, 7])].concat();
    let netns_batch = [
        message(NEWADDR, true, &[&[2, 24, 0, 0][..], &2u32.to_ne_bytes()].concat(), &address),
        message(NEWLINK, false, &link(2, true), &[]),
        message(NEWLINK, false, &link(1, true), &[]),
    ]
    .concat();
    NetworkSetup { host_batch, netns_fd_at: vec![at], netns_batch }
}

fn network(spawner: &Spawner) {
    let script = "ip addr show eth0; ip link show lo; cat /proc/sys/net/ipv4/conf/eth0/rp_filter";
    let mut container = Container::new(&["sh", "-c", script]);
    container.launch.network = Some(setup("rt-veth0\0"));
    // Needs the device, so it also shows the order.
    let sysctls = [("net.ipv4.conf.eth0.rp_filter".to_owned(), "2".to_owned())].into();
    container.launch.spec.linux_mut().as_mut().unwrap().set_sysctl(Some(sysctls));
    let text = container.stdout(spawner);
    assert!(text.contains("inet 10.9.8.7/24") && text.contains(",UP"), "{text}");
    assert!(text.contains("lo: <LOOPBACK,UP"), "{text}");
    assert!(text.ends_with("\n2\n"), "{text}");
    // The device goes with its namespace, some time later.
    wait_for(|| !Path::new("/sys/class/net/rt-veth0").exists());
}

fn network_failure(spawner: &Spawner) {
    let mut container = Container::new(&["true"]);
    let mut request = setup("rt-veth1\0");
    request.netns_batch = message(NEWLINK, false, &link(77, true), &[]);
    container.launch.network = Some(request);
    let message = container.failure(spawner).message;
    let expected =
        "failed to set up container networking (container side): netlink message 0 of the batch: No such device";
    assert!(message.starts_with(expected), "{message}");
    container.assert_nothing_left();
    let mut container = Container::new(&["true"]);
    container.launch.network = Some(NetworkSetup { netns_fd_at: vec![9999], ..setup("rt-veth2\0") });
    assert_eq!(container.failure(spawner).message, "network request is malformed");
    container.assert_nothing_left();
}

fn mount_tmpfs(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
}

fn propagation(spawner: &Spawner) {
    for (option, to_container, to_host) in
        [("rprivate", false, false), ("rslave", true, false), ("rshared", true, true)]
    {
        let script = "mkdir -p /s/inner && mount -t tmpfs inner /s/inner && echo ready; read x; \
                      grep -c ' /s/outer ' /proc/self/mounts; exit 0";
        let mut container = Container::new(&["sh", "-c", script]);
        let all = hoist_runtime::defaults::capability_sets(hoist_runtime::defaults::available_capabilities());
        container.launch.spec.process_mut().as_mut().unwrap().set_capabilities(Some(all));
        container.launch.stdio.open_stdin = true;
        let shared = container.directory.join("shared");
        mount_tmpfs(&shared);
        rustix::mount::mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
        let json =
            serde_json::json!({"destination": "/s", "type": "bind", "source": shared, "options": ["rbind", option]});
        container.launch.spec.mounts_mut().as_mut().unwrap().push(serde_json::from_value(json).unwrap());
        let mut running = container.run(spawner);
        running.read_until("ready");
        mount_tmpfs(&shared.join("outer"));
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(table.contains(shared.join("inner").to_str().unwrap()), to_host, "{option}");
        running.write(b"\n");
        let output = super::container::demultiplex(&running.read_to_end(), 1);
        assert_eq!(output, format!("{}\n", u8::from(to_container)).as_bytes(), "{option}");
        running.end().unwrap();
        rustix::mount::unmount(&shared, UnmountFlags::DETACH).unwrap();
    }
}

fn subpath(spawner: &Spawner) {
    let script = "cat /part/file /only-file; test -e /part/link && echo leads; test -e /absent/proc && echo out; true";
    let mut container = Container::new(&["sh", "-c", script]);
    container.bind_parts();
    assert_eq!(container.stdout(spawner), "inside\nonly\n");
    container.launch.subpaths[0].path = "gone".into();
    let message = container.failure(spawner).message;
    assert!(message.contains("to rootfs at \"/part\": open ") && message.contains("no such file"), "{message}");
    container.assert_nothing_left();
}

fn later_mounts(spawner: &Spawner) {
    let mut container = Container::new(&["cat", "/s/file"]);
    let late = container.directory.join("late");
    mount_tmpfs(&late);
    std::fs::write(late.join("file"), "seen\n").unwrap();
    let json =
        serde_json::json!({"destination": "/s", "type": "bind", "source": late, "options": ["rbind", "rprivate"]});
    container.launch.spec.mounts_mut().as_mut().unwrap().push(serde_json::from_value(json).unwrap());
    assert_eq!(container.stdout(spawner), "seen\n");
    rustix::mount::unmount(&late, UnmountFlags::DETACH).unwrap();
}
