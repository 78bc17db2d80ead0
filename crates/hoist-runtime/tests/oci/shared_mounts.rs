//! Containers without a mount namespace of their own. The host that they share mounts with is a mount namespace of the
//! test's, in which mounts spread as they do on most machines.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Test;
use super::bundle::Bundle;
use super::namespaces::Elsewhere;

pub(crate) const TESTS: &[Test] = &[
    ("without_a_mount_namespace_a_container_is_in_the_runtimes_with_the_bundles_root", shared),
    ("without_a_mount_namespace_nothing_spreads_and_what_the_host_shares_stays", spreads_nowhere),
    ("without_a_mount_namespace_a_failing_create_leaves_no_mounts", undone),
    ("without_a_mount_namespace_mounts_of_a_killed_create_are_cleared_away", killed_create),
    ("without_a_mount_namespace_mounts_go_under_processes_that_outlive_init", survivors),
    ("without_a_mount_namespace_what_needs_one_is_refused", refusals),
    ("with_a_mount_namespace_nothing_shows_up_on_a_host_with_shared_mounts", own_mounts),
];

struct Host(Elsewhere);

impl Host {
    fn new() -> Host {
        let host = Host(Elsewhere::new());
        host.run("mount --make-rshared /");
        host
    }

    fn run(&self, script: &str) -> String {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.0.pid());
        let output = Command::new("nsenter").args([&namespace, "sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn table(&self) -> String {
        self.0.table()
    }

    /// What is mounted in a bundle, and what else there is.
    fn split_table(&self, bundle: &Bundle) -> (Vec<String>, String) {
        let rootfs = bundle.path.join("rootfs").display().to_string();
        let (table, mut rest) = (self.table(), String::new());
        let mut below = Vec::new();
        for line in table.lines() {
            match line.split(' ').nth(4).unwrap().strip_prefix(&rootfs) {
                Some(place) => below.push(place.to_owned()),
                None => rest += &format!("{line}\n"),
            }
        }
        (below, rest)
    }

    /// A bundle for a container in this host, without a mount namespace.
    fn bundle(&self, args: &[&str]) -> Bundle {
        let bundle = self.bundle_with_mounts(args);
        bundle.change(|config| {
            namespaces(config).retain(|namespace| namespace["type"] != "mount");
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
            config["root"]["readonly"] = false.into();
        });
        bundle
    }

    fn bundle_with_mounts(&self, args: &[&str]) -> Bundle {
        let mut bundle = Bundle::new(args);
        bundle.host = Some(self.0.pid());
        bundle
    }
}

fn namespaces(config: &mut Value) -> &mut Vec<Value> {
    config["linux"]["namespaces"].as_array_mut().unwrap()
}

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

fn shared() {
    let host = Host::new();
    let before = host.table();
    let look = "readlink /proc/self/ns/mnt; ls -d /bin /home 2> /dev/null; readlink /proc/self/cwd; \
                cd ../..; ls -d home 2> /dev/null; grep -c /rootfs /proc/self/mountinfo; echo > /made";
    let bundle = host.bundle(&["sh", "-c", &format!("{look}; exec sleep 1000")]);
    bundle.create(&[]);
    let pid = bundle.state()["pid"].to_string();
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap().display().to_string();
    assert_eq!((link("ns/mnt"), link("root")), (host.0.namespace(), bundle.path.join("rootfs").display().to_string()));
    bundle.run(&["start", &bundle.id]);
    let (mounts, rest) = host.split_table(&bundle);
    assert!(mounts.contains(&"/proc".to_owned()) && mounts.contains(&"/dev/pts".to_owned()), "{mounts:?}");
    let rootfs = bundle.path.join("rootfs").display().to_string();
    let spread: Vec<_> =
        host.table().lines().filter(|l| l.contains(&rootfs) && l.contains(" shared:")).map(str::to_owned).collect();
    assert!(spread.is_empty(), "{spread:?}");
    assert_eq!(rest, before, "the host's own mounts are as they were");
    let made = bundle.wait_for_file("made");
    // One line of the mount table knows of the place on the host: the root's says what it is a part of.
    let expected = format!("{}\n/bin\n/\n1\n", host.0.namespace());
    let inside = bundle.container_output();
    assert_eq!(inside, expected);
    fs::remove_file(&made).unwrap();
    assert_eq!(bundle.run(&["exec", &bundle.id, "sh", "-c", look]), inside);
    assert!(made.exists());
    bundle.run(&["kill", &bundle.id, "KILL"]);
    bundle.wait_for("stopped");
    bundle.run(&["delete", &bundle.id]);
    assert_eq!(host.table(), before);
    bundle.assert_gone();
}

fn spreads_nowhere() {
    let host = Host::new();
    let bundle = host.bundle(&["sleep", "1000"]);
    let source = bundle.path.join("source");
    let source = source.display();
    host.run(&format!("mkdir -p {source}/below {source}/made; mount -t tmpfs none {source}/below"));
    let before = host.table();
    bundle.change(|config| {
        for (destination, options) in [("/shared", json!(["rbind", "rshared"])), ("/plain", json!(["rbind"]))] {
            add_mount(
                config,
                json!({"destination": destination, "type": "bind", "source": source.to_string(), "options": options}),
            );
        }
        add_mount(config, json!({"destination": "/plain/made", "type": "tmpfs", "source": "none"}));
        config["linux"]["rootfsPropagation"] = "shared".into();
    });
    // Somebody who hears of the host's mounts.
    let namespace = format!("--mount=/proc/{}/ns/mnt", host.0.pid());
    let mut command = Command::new("nsenter");
    command.args([&namespace, "unshare", "--mount", "--propagation", "slave", "sleep", "1000"]);
    let listener = Elsewhere::by(&mut command);
    let heard = || {
        let table = listener.table();
        table.lines().filter(|line| line.contains(&bundle.id) && line.contains("/rootfs")).count()
    };
    bundle.run_detached();
    let (mounts, rest) = host.split_table(&bundle);
    assert!(mounts.contains(&"/shared/below".to_owned()), "{mounts:?}");
    assert_eq!((rest, heard()), (before.clone(), 1), "only the bundle's root itself is known elsewhere");
    bundle.run(&["delete", "--force", &bundle.id]);
    assert_eq!((host.table(), heard()), (before, 0));
}

/// A change to a good configuration.
type Change = fn(&mut Value);

/// Each of these cannot be created, says so in these words, and leaves no mount.
fn fail_and_leave_nothing(host: &Host, cases: &[(Change, &str)]) {
    let before = host.table();
    for (change, words) in cases {
        let bundle = host.bundle(&["true"]);
        bundle.change(*change);
        let text = bundle.fail(&["create", &bundle.id]);
        assert!(text.contains(words), "{words}: {text}");
        assert_eq!(host.table(), before, "{words}");
        bundle.assert_gone();
    }
}

fn undone() {
    let host = Host::new();
    let cases: &[(Change, &str)] = &[
        (|c| add_mount(c, json!({"destination": "/x", "type": "nofs"})), "no such device"),
        (|c| c["process"]["args"] = json!(["/no/such"]), "no such file"),
        (|c| c["hooks"]["createRuntime"] = json!([{"path": "/bin/false"}]), "createRuntime"),
        (|c| c["linux"]["rootfsPropagation"] = "nonsense".into(), "rootfsPropagation"),
    ];
    fail_and_leave_nothing(&host, cases);
}

fn killed_create() {
    let host = Host::new();
    let before = host.table();
    let bundle = host.bundle(&["true"]);
    let busy = bundle.path.join("busy");
    fs::write(&busy, "").unwrap();
    let script = format!("while [ -e {} ]; do sleep 0.02; done", busy.display());
    bundle.change(|config| {
        config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    });
    let mut create = bundle.command(&["create", &bundle.id]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !host.split_table(&bundle).0.contains(&"/dev/mqueue".to_owned()) {
        assert!(Instant::now() < deadline && create.try_wait().unwrap().is_none(), "{}", host.table());
        std::thread::sleep(Duration::from_millis(2));
    }
    create.kill().unwrap();
    create.wait().unwrap();
    fs::remove_file(&busy).unwrap();
    assert_ne!(host.table(), before);
    bundle.run(&["delete", "--force", &bundle.id]);
    assert_eq!(host.table(), before);
    assert_eq!(bundle.run(&["run", &bundle.id]), "");
    assert_eq!(host.table(), before);
}

fn survivors() {
    let host = Host::new();
    let before = host.table();
    let bundle = host.bundle(&["sh", "-c", "cd /dev; sleep 1000 & exec true"]);
    bundle.change(|config| namespaces(config).retain(|namespace| namespace["type"] != "pid"));
    bundle.run_detached();
    bundle.wait_for("stopped");
    assert_ne!(host.table(), before);
    bundle.run(&["delete", &bundle.id]);
    assert_eq!(host.table(), before);
    bundle.assert_gone();
}

fn with_user_namespace(config: &mut Value) {
    namespaces(config).push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

fn refusals() {
    let host = Host::new();
    let before = host.table();
    let restricted = "unable to restrict sys entries without a private MNT namespace";
    let cases: &[(Change, &str)] = &[
        (|c| c["linux"]["maskedPaths"] = json!(["/proc/kcore"]), restricted),
        (|c| c["linux"]["readonlyPaths"] = json!(["/proc/sys"]), restricted),
        (with_user_namespace, "a user namespace needs a mount namespace"),
        (|c| c["root"]["path"] = "/".into(), "the runtime's own root needs a mount namespace"),
    ];
    fail_and_leave_nothing(&host, cases);
    let bundle = host.bundle(&["sleep", "1000"]);
    bundle.run_detached();
    let second = host.bundle(&["true"]);
    second.change(|config| config["root"]["path"] = bundle.path.join("rootfs").display().to_string().into());
    let text = second.fail(&["create", &second.id]);
    assert!(text.contains("in use by another container without a mount namespace"), "{text}");
    assert_eq!(bundle.status(), "running");
    bundle.run(&["delete", "--force", &bundle.id]);
    second.run(&["run", &second.id]);
    assert_eq!(host.table(), before);
}

fn own_mounts() {
    let host = Host::new();
    let before = host.table();
    let script = "mount -t tmpfs none /bind/x && mount -t tmpfs none /mapped/x && echo > /mounted; exec sleep 1000";
    let bundle = host.bundle_with_mounts(&["sh", "-c", script]);
    let source = bundle.path.join("source");
    fs::create_dir_all(source.join("x")).unwrap();
    bundle.change(|config| {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        let bind = json!({"destination": "/bind", "type": "bind", "source": source, "options": ["rbind"]});
        add_mount(config, bind);
        add_mount(
            config,
            json!({
                "destination": "/mapped", "type": "bind", "source": source, "options": ["bind"],
                "uidMappings": map, "gidMappings": map,
            }),
        );
        config["root"]["readonly"] = false.into();
        config["linux"].as_object_mut().unwrap().remove("seccomp");
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
    });
    bundle.run_detached();
    bundle.wait_for_file("mounted");
    assert_eq!(host.table(), before);
    bundle.run(&["delete", "--force", &bundle.id]);
    assert_eq!(host.table(), before);
}
