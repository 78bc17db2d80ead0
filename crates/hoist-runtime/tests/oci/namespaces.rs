//! User, time and foreign mount namespaces, mounts with mapped owners, and what else a configuration may wish of a process.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::Test;
use super::bundle::Bundle;

pub(crate) const TESTS: &[Test] = &[
    ("the_root_of_a_user_namespace_is_another_user_of_the_host", mapped_root),
    ("an_exec_enters_the_user_namespace", exec_in_user_namespace),
    ("what_only_the_hosts_root_may_set_is_set_in_a_user_namespace_too", privileged_settings),
    ("a_container_joins_the_user_namespace_of_another", joined_user_namespace),
    ("a_container_joins_a_mount_namespace", joined_mount_namespace),
    ("the_runtimes_own_mount_namespace_cannot_be_joined", own_mount_namespace),
    ("a_joined_mount_namespace_does_not_redirect_what_is_written_to_proc", hostile_proc),
    ("limits_are_set_before_the_program_runs_in_a_joined_user_namespace", joined_limits),
    ("a_container_joins_the_cgroup_and_user_namespaces_of_another", joined_cgroup_namespace),
    ("a_caller_that_ignores_the_end_of_children_does_not_disturb", ignored_children),
    ("the_clocks_of_a_time_namespace_have_their_offsets", time_offsets),
    ("owners_of_a_mount_are_mapped", mapped_mount),
    ("hooks_run_for_a_container_in_a_user_namespace", hooks_in_user_namespace),
    ("a_personality_is_taken_on", personality),
    ("an_exec_runs_on_the_processors_that_it_asks_for", affinity),
];

const HOST_ROOT: u32 = 100_000;

/// A bundle whose root and files belong to the root of its user namespace.
fn mapped(args: &[&str]) -> Bundle {
    let bundle = Bundle::new(args);
    let rootfs = bundle.path.join("rootfs");
    for path in [rootfs.clone(), rootfs.join("bin"), rootfs.join("bin/busybox")] {
        std::os::unix::fs::chown(path, Some(HOST_ROOT), Some(HOST_ROOT)).unwrap();
    }
    bundle.change(|config| {
        namespaces(config).push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": HOST_ROOT, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["root"]["readonly"] = false.into();
    });
    bundle
}

fn namespaces(config: &mut Value) -> &mut Vec<Value> {
    config["linux"]["namespaces"].as_array_mut().unwrap()
}

/// Has the container join a namespace of a process.
fn join(config: &mut Value, kind: &str, name: &str, pid: &str) {
    let path = format!("/proc/{pid}/ns/{name}");
    namespaces(config).retain(|namespace| namespace["type"] != kind);
    namespaces(config).push(json!({"type": kind, "path": path}));
}

fn link(pid: &str, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

fn mapped_root() {
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; echo > /made; cat /dev/null; ls /sys /dev/pts; \
                  mount -t tmpfs none /sys && echo mounted";
    let bundle = mapped(&["sh", "-c", script]);
    bundle.change(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        }
    });
    let output = bundle.run(&["run", &bundle.id]);
    let lines: Vec<_> = output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines[..3],
        [format!("0 {HOST_ROOT} 65536"), format!("0 {HOST_ROOT} 65536"), "0".to_owned()],
        "{output}"
    );
    assert_eq!(lines.last().unwrap(), "mounted", "{output}");
    let made = std::fs::metadata(bundle.path.join("rootfs/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), HOST_ROOT);
    bundle.assert_gone();
}

fn exec_in_user_namespace() {
    let bundle = mapped(&["sleep", "1000"]);
    bundle.run_detached();
    let output =
        bundle.run(&["exec", &bundle.id, "sh", "-c", "id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user"]);
    let pid = bundle.state()["pid"].to_string();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!((lines[0], lines[2]), ("0", link(&pid, "user").as_str()), "{output}");
    assert!(lines[1].contains(&HOST_ROOT.to_string()), "{output}");
    assert_ne!(link(&pid, "user"), link("self", "user"));
    let output = bundle.run(&["exec", "--user", "5:6", &bundle.id, "id"]);
    assert!(output.starts_with("uid=5 gid=6"), "{output}");
}

fn privileged_settings() {
    let bundle = mapped(&["sh", "-c", "cat /proc/self/oom_score_adj; ulimit -Hn"]);
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 20) - 1;
    bundle.change(|config| {
        config["process"]["oomScoreAdj"] = json!(500);
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": hard}]);
    });
    assert_eq!(bundle.run(&["run", &bundle.id]), format!("500\n{hard}\n"));
}

fn joined_user_namespace() {
    let first = mapped(&["sleep", "1000"]);
    first.run_detached();
    let pid = first.state()["pid"].to_string();
    let second =
        mapped(&["sh", "-c", "id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net; cat /proc/self/uid_map"]);
    second.change(|config| {
        join(config, "user", "user", &pid);
        join(config, "network", "net", &pid);
        for map in ["uidMappings", "gidMappings"] {
            config["linux"].as_object_mut().unwrap().remove(map);
        }
    });
    let output = second.run(&["run", &second.id]);
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..3], ["0", &link(&pid, "user"), &link(&pid, "net")], "{output}");
    assert!(lines[3].contains(&HOST_ROOT.to_string()), "{output}");
}

/// A process in a mount namespace of its own, ended when dropped.
pub(crate) struct Elsewhere(Child);

impl Elsewhere {
    pub(crate) fn new() -> Elsewhere {
        Elsewhere::by(Command::new("unshare").args(["--mount", "sleep", "1000"]))
    }

    /// By a command that becomes `sleep` when it is there.
    pub(crate) fn by(command: &mut Command) -> Elsewhere {
        let elsewhere = Elsewhere(command.stdout(Stdio::null()).spawn().unwrap());
        let name = format!("/proc/{}/comm", elsewhere.pid());
        while std::fs::read_to_string(&name).unwrap() != "sleep\n" {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        elsewhere
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }

    pub(crate) fn namespace(&self) -> String {
        link(&self.pid(), "mnt")
    }

    /// Its table of mounts, with how they spread.
    pub(crate) fn table(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).unwrap()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn joined_mount_namespace() {
    let elsewhere = Elsewhere::new();
    let bundle = Bundle::new(&["sh", "-c", "readlink /proc/self/ns/mnt; ls /"]);
    bundle.change(|config| join(config, "mount", "mnt", &elsewhere.pid()));
    let output = bundle.run(&["run", &bundle.id]);
    assert_eq!(output.lines().next().unwrap(), link(&elsewhere.pid(), "mnt"));
    assert!(output.lines().all(|line| line != "home"), "{output}");
    assert!(Path::new("/proc/self/ns").exists(), "the host's own mounts are untouched");
}

fn own_mount_namespace() {
    let bundle = Bundle::new(&["true"]);
    bundle.change(|config| join(config, "mount", "mnt", "self"));
    let text = bundle.fail(&["run", &bundle.id]);
    assert!(text.contains("the mount namespace to join is the runtime's own"), "{text}");
    bundle.assert_gone();
}

fn hostile_proc() {
    let elsewhere = Elsewhere::new();
    let bundle = Bundle::new(&["cat", "/proc/self/oom_score_adj"]);
    let file = bundle.path.join("file");
    std::fs::write(&file, "old").unwrap();
    // In the namespace /proc is a tmpfs in which the file to be written to is one of the host.
    let script = format!(
        "mount -t tmpfs none /proc && mkdir /proc/self && touch /proc/self/oom_score_adj && \
         mount --bind {} /proc/self/oom_score_adj",
        file.display()
    );
    let namespace = format!("--mount=/proc/{}/ns/mnt", elsewhere.pid());
    assert!(Command::new("nsenter").args([&namespace, "sh", "-c", &script]).status().unwrap().success());
    bundle.change(|config| {
        join(config, "mount", "mnt", &elsewhere.pid());
        config["process"]["oomScoreAdj"] = json!(500);
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    });
    assert_eq!(bundle.run(&["run", &bundle.id]), "500\n");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "old");
}

/// A container in the user namespace of another, and which namespaces besides.
fn guest(first: &Bundle, others: &[(&str, &str)], args: &[&str]) -> Bundle {
    let pid = first.state()["pid"].to_string();
    let second = mapped(args);
    second.change(|config| {
        join(config, "user", "user", &pid);
        others.iter().for_each(|(kind, name)| join(config, kind, name, &pid));
        for map in ["uidMappings", "gidMappings"] {
            config["linux"].as_object_mut().unwrap().remove(map);
        }
    });
    second
}

fn joined_limits() {
    let first = mapped(&["sleep", "1000"]);
    first.run_detached();
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 20) - 1;
    for _ in 0..10 {
        let second = guest(&first, &[], &["sh", "-c", "cat /proc/self/oom_score_adj; ulimit -Hn"]);
        second.change(|config| {
            config["process"]["oomScoreAdj"] = json!(500);
            config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": hard}]);
        });
        assert_eq!(second.run(&["run", &second.id]), format!("500\n{hard}\n"));
    }
}

fn joined_cgroup_namespace() {
    let first = mapped(&["sleep", "1000"]);
    first.change(|config| {
        namespaces(config).retain(|namespace| namespace["type"] != "cgroup");
        namespaces(config).push(json!({"type": "cgroup"}));
    });
    first.run_detached();
    let second = guest(&first, &[("cgroup", "cgroup")], &["sh", "-c", "readlink /proc/self/ns/cgroup; sleep 1000"]);
    // The group cannot be shown from inside: it is no part of the namespace.
    second.change(|config| config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup"));
    second.run_detached();
    let pid = second.state()["pid"].to_string();
    assert_eq!(link(&pid, "cgroup"), link(&first.state()["pid"].to_string(), "cgroup"));
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains(&second.id), "{groups}");
}

fn ignored_children() {
    let bundle = mapped(&["echo", "ran"]);
    let command = bundle.command(&["run", &bundle.id]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' CHLD; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    let output = shell.current_dir(&bundle.path).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, b"ran\n", "{}", String::from_utf8_lossy(&output.stderr));
}

fn time_offsets() {
    if !Path::new("/proc/self/ns/time").exists() {
        return;
    }
    let bundle = Bundle::new(&["cat", "/proc/uptime"]);
    bundle.change(|config| {
        namespaces(config).push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 5_000_000, "nanosecs": 5}, "monotonic": {"secs": 7}});
    });
    let output = bundle.run(&["run", &bundle.id]);
    let uptime: f64 = output.split(' ').next().unwrap().parse().unwrap();
    let host = std::fs::read_to_string("/proc/uptime").unwrap();
    let host: f64 = host.split(' ').next().unwrap().parse().unwrap();
    assert!((uptime - host - 5_000_000.0).abs() < 60.0, "{uptime} on {host}");
}

fn mapped_mount() {
    let bundle = Bundle::new(&["sh", "-c", "ls -ln /m/file"]);
    let source = bundle.path.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(0), Some(0)).unwrap();
    bundle.change(|config| {
        let map = json!([{"containerID": 0, "hostID": 1234, "size": 1}]);
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/m", "type": "bind", "source": source, "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map,
        }));
    });
    let output = bundle.run(&["run", &bundle.id]);
    let fields: Vec<_> = output.split_whitespace().collect();
    assert_eq!(fields[2..4], ["1234", "1234"], "{output}");
}

fn hooks_in_user_namespace() {
    let bundle = mapped(&["true"]);
    let note = bundle.path.join("note");
    let script = format!("cat > {}", note.display());
    bundle.change(|config| {
        config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        config["hooks"]["createContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exec cat > /dev/null"]}]);
    });
    bundle.run(&["run", &bundle.id]);
    let state: Value = serde_json::from_str(&std::fs::read_to_string(note).unwrap()).unwrap();
    assert_eq!(state["status"], "creating");
}

fn personality() {
    let bundle = Bundle::new(&["cat", "/proc/self/personality"]);
    bundle.change(|config| config["linux"]["personality"] = json!({"domain": "LINUX32"}));
    assert_eq!(bundle.run(&["run", &bundle.id]), "00000008\n");
}

fn affinity() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.run_detached();
    let process = |affinity: Value| {
        let process = json!({
            "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "user": {"uid": 0, "gid": 0},
            "env": ["PATH=/bin"], "execCPUAffinity": affinity,
        });
        std::fs::write(bundle.path.join("process.json"), process.to_string()).unwrap();
    };
    process(json!({"initial": "0", "final": "0"}));
    let output = bundle.run(&["exec", "--process", "process.json", &bundle.id]);
    assert_eq!(output.split_whitespace().last(), Some("0"), "{output}");
    process(json!({"initial": "nonsense"}));
    let text = bundle.fail(&["exec", "--process", "process.json", &bundle.id]);
    assert!(text.contains("execCPUAffinity") && text.contains("nonsense"), "{text}");
}
