//! What is refused, in which words, with nothing left behind.

use serde_json::{Value, json};

use super::Test;
use super::bundle::Bundle;

pub(crate) const TESTS: &[Test] = &[
    ("wrong_command_lines_are_refused_by_name", command_lines),
    ("wrong_configurations_are_refused_and_leave_nothing", configurations),
    ("errors_go_to_the_log_as_json", json_log),
    ("features_name_what_there_is", features),
];

fn command_lines() {
    let bundle = Bundle::new(&["true"]);
    for (args, words) in [
        (&["nonsense"][..], "no command"),
        (&["--nope"], "flag provided but not defined: -nope"),
        (&["--systemd-cgroup", "list"], "--systemd-cgroup is not supported"),
        (&["--rootless", "true", "list"], "--rootless=true is not supported"),
        (&["--log-format", "xml", "list"], "invalid log-format"),
        (&["create"], "container id cannot be empty"),
        (&["create", "a/b"], "invalid container ID format"),
        (&["create", ".."], "invalid container ID format"),
        (&["create", "--no-pivot", "x"], "--no-pivot is not supported"),
        (&["create", "--preserve-fds", "many", "x"], "invalid value"),
        (&["create", "x", "y"], "unexpected argument"),
        (&["create", "-b", "/no/such", "x"], "no such file or directory"),
        (&["state", "unknown"], "does not exist"),
        (&["kill", "unknown", "KILL"], "does not exist"),
        (&["checkpoint", "x"], "checkpoint is not supported"),
        (&["list", "--format", "xml"], "invalid format option"),
    ] {
        let text = bundle.fail(args);
        assert!(text.contains(words), "{args:?}: {text}");
    }
}

/// A change to a good configuration, and what the error says.
type Case = (fn(&mut Value), &'static str);

fn push(config: &mut Value, namespace: Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
}

fn half_mapped(config: &mut Value) {
    push(config, json!({"type": "user"}));
    config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
}

fn join_nowhere(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "uts");
    push(config, json!({"type": "uts", "path": "/no"}));
}

fn configurations() {
    let cases: &[Case] = &[
        (|c| c["ociVersion"] = json!("0.9"), "ociVersion"),
        (|c| c["root"]["path"] = json!("nowhere"), "invalid rootfs"),
        (|c| c["process"]["args"] = json!([]), "args must not be empty"),
        (|c| c["process"]["cwd"] = json!("relative"), "Cwd must be an absolute path"),
        (|c| c["process"]["cwd"] = json!("/proc/self/fd/7"), "chdir to cwd"),
        (|c| c["linux"]["cgroupsPath"] = json!("system.slice:x:y"), "systemd"),
        (|c| c["linux"]["cgroupsPath"] = json!("/../x"), "invalid cgroup path"),
        (|c| push(c, json!({"type": "user"})), "no namespace path to join nor mappings"),
        (
            |c| c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "isn't enabled in the config",
        ),
        (|c| half_mapped(c), "both linux.uidMappings and linux.gidMappings"),
        (|c| push(c, json!({"type": "pid"})), "duplicated ns"),
        (|c| c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}}), "no new time namespace"),
        (|c| c["linux"]["intelRdt"] = json!({"closID": "x"}), "linux.intelRdt is not supported"),
        (|c| c["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags"),
        (|c| c["mounts"][1]["options"] = json!(["idmap"]), "only bind mounts can be ID-mapped"),
        (|c| c["mounts"][1]["uidMappings"] = json!([{"size": 1}]), "both uidMappings and gidMappings"),
        (|c| join_nowhere(c), "/no"),
        (|c| c["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"}), "kernel.core_pattern"),
        (|c| c["linux"]["resources"]["cpu"] = json!({"cpus": "900"}), "cpuset.cpus"),
        (|c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY"),
        (|c| c["mounts"].as_array_mut().unwrap().push(json!({"destination": "/x", "type": "nofs"})), "no such device"),
        (|c| c["process"]["capabilities"]["bounding"] = json!(["CAP_NONSENSE"]), "CAP_NONSENSE"),
    ];
    for (change, words) in cases {
        let bundle = Bundle::new(&["true"]);
        bundle.change(*change);
        let text = bundle.fail(&["run", &bundle.id]);
        assert!(text.contains(words), "{words}: {text}");
        bundle.assert_gone();
    }
}

fn json_log() {
    let bundle = Bundle::new(&["true"]);
    let output = bundle.output(&["--log", "log", "--log-format", "json", "state", "unknown"]);
    assert_eq!(output.status.code(), Some(1));
    let log = std::fs::read_to_string(bundle.path.join("log")).unwrap();
    let line: Value = serde_json::from_str(log.trim()).unwrap();
    assert_eq!(
        (line["level"].as_str(), line["msg"].as_str()),
        (Some("error"), Some("container \"unknown\" does not exist"))
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(String::from_utf8(output.stderr).unwrap().trim(), "container \"unknown\" does not exist");
}

fn features() {
    let bundle = Bundle::new(&["true"]);
    let features: Value = serde_json::from_str(&bundle.run(&["features"])).unwrap();
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    assert!(bundle.run(&["--version"]).contains("\nspec: 1."));
    assert!(bundle.run(&["--help"]).contains("create a container"));
}
