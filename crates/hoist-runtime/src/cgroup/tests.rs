//! The pure parts, and groups on the running kernel: version 1 on machines that have it, version 2 in guests. Groups are
//! made below `/hoist-test-cgroup-<pid>` and removed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use oci_spec::runtime::LinuxResources;

use super::devices::{ALL, Exception, MKNOD, Policy, v1_rule};
use super::hierarchy::{self, Hierarchy};
use super::*;

fn resources(json: serde_json::Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

fn docker_rules() -> serde_json::Value {
    serde_json::json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ])
}

fn policy(json: serde_json::Value) -> Result<Policy, String> {
    Policy::of_container(&serde_json::from_value::<Vec<_>>(json).unwrap())
}

#[test]
fn a_hybrid_machine_counts_as_version_one() {
    let machine = hierarchy::parse(
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
         32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,xattr,memory\n\
         40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
         90 31 0:32 / /srv/root/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    );
    assert_eq!((machine.unified, machine.beside.as_deref()), (None, Some(Path::new("/sys/fs/cgroup/unified"))));
    let points: Vec<_> = machine.legacy.iter().map(|h| h.mount_point.to_str().unwrap()).collect();
    assert_eq!(points, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"]);
    assert_eq!(machine.legacy[0].controllers, ["cpu", "cpuacct"]);
    assert_eq!(machine.legacy[2].controllers, ["name=systemd"]);
}

#[test]
fn a_machine_with_version_two_at_the_usual_place_counts_as_version_two() {
    let machine = hierarchy::parse(
        "24 23 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n\
         55 23 0:40 / /opt/net\\040cls rw - cgroup cgroup rw,net_cls\n",
    );
    assert_eq!(machine.unified.as_deref(), Some(Path::new("/sys/fs/cgroup")));
    assert_eq!(
        machine.legacy,
        [Hierarchy { mount_point: PathBuf::from("/opt/net cls"), controllers: vec!["net_cls".to_owned()] }]
    );
}

#[test]
fn paths_that_climb_or_name_the_root_are_refused() {
    assert_eq!(hierarchy::relative(Path::new("/hoist/abc")).unwrap(), Path::new("hoist/abc"));
    for bad in ["", "/", "/..", "/hoist/../..", "../x"] {
        assert!(hierarchy::relative(Path::new(bad)).is_err(), "{bad:?}");
        assert_eq!(at(Path::new(bad)).remove().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn dockers_device_rules_come_out_as_runc_writes_them() {
    let mut rules: Vec<_> = policy(docker_rules()).unwrap().exceptions.iter().map(v1_rule).collect();
    rules.sort();
    let expected = [
        "b *:* m",
        "c *:* m",
        "c 10:200 rwm",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:1 rwm",
        "c 5:2 rwm",
    ];
    assert_eq!(rules, expected);
}

#[test]
fn device_rules_apply_in_order() {
    let all = policy(serde_json::json!([{"allow": false}, {"allow": true, "access": "rwm"}])).unwrap();
    assert!(all.allows_everything());
    let but_one =
        policy(serde_json::json!([{"allow": true}, {"allow": false, "type": "b", "major": 8, "access": "w"}])).unwrap();
    assert!(but_one.allow_by_default);
    assert_eq!(v1_rule(&but_one.exceptions[0]), "b 8:* w");
    let less = policy(serde_json::json!([
        {"allow": true, "type": "c", "major": 4, "minor": 7, "access": "rwm"},
        {"allow": false, "type": "c", "major": 4, "minor": 7, "access": "w"},
    ]));
    let of_tty = Exception { block: false, major: Some(4), minor: Some(7), access: ALL & !super::devices::WRITE };
    assert!(less.unwrap().exceptions.contains(&of_tty));
    let _ = MKNOD;
}

#[test]
fn a_device_rule_that_the_kernel_would_ignore_is_an_error() {
    let error = policy(serde_json::json!([
        {"allow": true, "type": "c", "major": 10, "access": "rw"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ]))
    .unwrap_err();
    assert_eq!(error, "device rule [c 10:229 rwm] cannot make a hole in the wider rule [c 10:* rw]");
    assert!(policy(serde_json::json!([{"allow": true, "type": "c", "access": "rx"}])).unwrap_err().contains("access"));
    assert!(policy(serde_json::json!([{"allow": true, "type": "p"}])).unwrap_err().contains("pipes"));
}

#[test]
fn limits_are_converted_to_version_two_as_runc_does() {
    for (shares, weight) in [(0, 0), (1, 1), (2, 1), (512, 59), (1024, 100), (262_144, 10_000), (999_999, 10_000)] {
        assert_eq!(limits::v2::weight_of_shares(shares), weight, "{shares}");
    }
    for (block, weight) in [(10, 1), (500, 4950), (1000, 10_000)] {
        assert_eq!(limits::v2::weight_of_block_io(block), weight);
    }
    let swap = |both, memory| limits::v2::swap_alone(both, memory).unwrap();
    assert_eq!(swap(0, 0), None);
    assert_eq!(swap(0, 100), None);
    assert_eq!(swap(-1, 100).as_deref(), Some("max"));
    assert_eq!(swap(0, -1).as_deref(), Some("max"));
    assert_eq!(swap(300, 100).as_deref(), Some("200"));
    assert_eq!(swap(100, 100).as_deref(), Some("0"));
    assert!(limits::v2::swap_alone(50, 100).is_err() && limits::v2::swap_alone(50, 0).is_err());
}

/// A group below one of our own, removed at the end.
struct Scene {
    parent: PathBuf,
    group: Box<dyn Cgroup>,
    child: Option<Child>,
}

impl Scene {
    fn new(name: &str) -> Option<Scene> {
        if !rustix::process::getuid().is_root() || (hierarchies().is_empty() && unified_mount().is_none()) {
            eprintln!("skipped: needs root and mounted control groups");
            return None;
        }
        let parent = PathBuf::from(format!("/hoist-test-cgroup-{name}-{}", std::process::id()));
        let group = at(&parent.join("one"));
        Some(Scene { parent, group, child: None })
    }

    /// A process in the group: a shell that waits, put in from outside (tests are multi-threaded and must not enter).
    fn populate(&mut self) -> i32 {
        let script: String =
            self.group.paths().iter().map(|(_, path)| format!("echo 0 > {}/cgroup.procs; ", path.display())).collect();
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{script} echo in; exec cat")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut word = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.child = Some(child);
        pid
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let paths = self.group.paths();
        let path =
            &paths.iter().find(|(names, _)| names.is_empty() || names.split(',').any(|n| n == controller)).unwrap().1;
        std::fs::read_to_string(path.join(file)).unwrap().trim().to_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.group.remove().unwrap();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        at(&self.parent).remove().unwrap();
        assert!(self.group.paths().iter().all(|(_, path)| !path.exists()));
    }
}

#[test]
fn limits_reach_the_kernel() {
    let Some(scene) = Scene::new("limits") else { return };
    let spec = serde_json::json!({
        "devices": docker_rules(),
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "disableOOMKiller": false},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 64},
    });
    scene.group.create(&resources(spec)).unwrap();
    let stats = scene.group.stats().unwrap();
    assert_eq!(stats.memory_limit_bytes, 64 << 20);
    assert_eq!(stats.pids_limit, 64);
    assert_eq!(scene.group.oom_kills().unwrap(), 0);
    assert_eq!(scene.read("cpuset", "cpuset.cpus"), "0");
    match version() {
        Version::V1 => {
            assert_eq!(scene.read("cpu", "cpu.shares"), "512");
            assert_eq!(scene.read("cpu", "cpu.cfs_quota_us"), "50000");
            assert_eq!(scene.read("memory", "memory.soft_limit_in_bytes"), (32 << 20).to_string());
            assert!(scene.read("devices", "devices.list").lines().any(|line| line == "c 1:3 rwm"));
            assert!(!scene.read("devices", "devices.list").contains("a *:*"));
        }
        Version::V2 => {
            assert_eq!(scene.read("", "cpu.weight"), "59");
            assert_eq!(scene.read("", "cpu.max"), "50000 100000");
            assert_eq!(scene.read("", "memory.low"), (32 << 20).to_string());
        }
    }
    // Raised and lowered, with swap along.
    for limit in [128, 32] {
        let update = serde_json::json!({"memory": {"limit": limit << 20, "swap": limit << 21}});
        scene.group.update(&resources(update)).unwrap();
        assert_eq!(scene.group.stats().unwrap().memory_limit_bytes, limit << 20);
    }
    scene.group.update(&resources(serde_json::json!({"memory": {"limit": -1}, "pids": {"limit": -1}}))).unwrap();
    let stats = scene.group.stats().unwrap();
    assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (u64::MAX, 0));
}

#[test]
fn a_group_can_be_filled_frozen_and_removed_with_what_is_left_in_it() {
    let Some(mut scene) = Scene::new("life") else { return };
    scene.group.create(&LinuxResources::default()).unwrap();
    let pid = scene.populate();
    assert_eq!(scene.group.pids().unwrap(), [pid]);
    assert!(!scene.group.is_frozen().unwrap());
    scene.group.freeze(true).unwrap();
    assert!(scene.group.is_frozen().unwrap());
    scene.group.freeze(false).unwrap();
    assert!(!scene.group.is_frozen().unwrap());
    assert!(scene.group.stats().unwrap().pids_current >= 1);
    scene.group.freeze(true).unwrap();
    // A group of the container's own below it, and a frozen process: both go.
    for (_, path) in scene.group.paths() {
        std::fs::create_dir(path.join("below")).unwrap();
    }
    scene.group.remove().unwrap();
    let status = scene.child.take().unwrap().wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    scene.group.remove().unwrap();
}

#[test]
fn a_refused_limit_names_file_and_value_and_leaves_no_group() {
    let Some(scene) = Scene::new("refused") else { return };
    let error =
        scene.group.create(&resources(serde_json::json!({"cpu": {"cpus": "4000-5000"}}))).unwrap_err().to_string();
    assert!(error.contains("\"4000-5000\"") && error.contains("cpuset.cpus"), "{error}");
    assert!(error.starts_with("failed to write"), "{error}");
    assert!(scene.group.paths().iter().all(|(_, path)| !path.exists()));
}

#[test]
fn device_rules_hold_for_processes_in_the_group() {
    let Some(mut scene) = Scene::new("devices") else { return };
    // /tmp is often mounted without devices.
    let node = Path::new("/dev").join(format!("hoist-test-device-{}", std::process::id()));
    let check = |scene: &mut Scene, expected: &str| {
        // /dev/kmsg's number, which nothing allows by default.
        let script: String =
            scene.group.paths().iter().map(|(_, path)| format!("echo 0 > {}/cgroup.procs; ", path.display())).collect();
        let test = format!(
            "{script} mknod {0} c 1 11; (exec 3<{0}) 2>/dev/null && echo open || echo denied; head -c1 /dev/zero | wc -c; rm -f {0}",
            node.display()
        );
        let output = Command::new("/bin/sh").args(["-c", &test]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{expected}\n1\n"), "{output:?}");
    };
    scene.group.create(&resources(serde_json::json!({"devices": docker_rules()}))).unwrap();
    check(&mut scene, "denied");
    let mut wider = docker_rules();
    wider
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}));
    scene.group.update(&resources(serde_json::json!({"devices": wider}))).unwrap();
    check(&mut scene, "open");
    scene.group.update(&resources(serde_json::json!({"devices": docker_rules()}))).unwrap();
    check(&mut scene, "denied");
    scene.group.update(&resources(serde_json::json!({"devices": [{"allow": true, "access": "rwm"}]}))).unwrap();
    check(&mut scene, "open");
}

#[test]
fn missing_groups_can_be_removed_and_have_no_processes() {
    let Some(scene) = Scene::new("missing") else { return };
    scene.group.remove().unwrap();
    assert!(scene.group.pids().unwrap().is_empty());
    assert!(!scene.group.is_frozen().unwrap());
}
