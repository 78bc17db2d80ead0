//! What a default and a privileged container get, compared with what dockerd 28.5 writes.

use std::path::Path;

use super::capabilities::tweak;
use super::*;

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

fn json(spec: &Spec) -> serde_json::Value {
    serde_json::to_value(spec).unwrap()
}

#[test]
fn the_default_spec_has_the_fourteen_capabilities_and_no_inheritable_ones() {
    let spec = default_spec(Version::V1);
    let caps = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
    assert_eq!(caps.bounding().as_ref().unwrap().len(), 14);
    assert_eq!(caps.effective(), caps.bounding());
    assert_eq!(caps.permitted(), caps.bounding());
    assert!(caps.inheritable().is_none() && caps.ambient().is_none());
}

#[test]
fn the_default_spec_serializes_to_what_dockerd_writes() {
    let spec = json(&default_spec(Version::V1));
    let shm = spec["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == "/dev/shm").unwrap();
    assert_eq!(
        *shm,
        serde_json::json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]})
    );
    let order: Vec<_> = spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    assert_eq!(order, ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]);
    let rules = spec["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules.len(), 8);
    assert_eq!(rules[0], serde_json::json!({"allow": false, "access": "rwm"}));
    assert_eq!(rules[7], serde_json::json!({"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}));
    assert_eq!(spec["process"]["oomScoreAdj"], 0);
    assert!(spec["process"].get("rlimits").is_none());
    assert_eq!(spec["process"]["noNewPrivileges"], false);
}

#[test]
fn the_cgroup_namespace_is_private_on_version_two_only() {
    let kinds = |version| -> Vec<_> { default_namespaces(version).iter().map(LinuxNamespace::typ).collect() };
    assert!(!kinds(Version::V1).contains(&LinuxNamespaceType::Cgroup));
    assert!(kinds(Version::V2).contains(&LinuxNamespaceType::Cgroup));
    assert_eq!(kinds(Version::V1).len(), 5);
}

#[test]
fn a_privileged_spec_has_no_masks_and_writable_sys_and_cgroups() {
    let mut spec = default_spec(Version::V1);
    make_privileged(&mut spec).unwrap();
    let spec = json(&spec);
    assert!(spec["linux"].get("maskedPaths").is_none() && spec["linux"].get("readonlyPaths").is_none());
    assert_eq!(spec["linux"]["resources"]["devices"], serde_json::json!([{"allow": true, "access": "rwm"}]));
    for mount in spec["mounts"].as_array().unwrap() {
        assert!(!mount["options"].as_array().unwrap().iter().any(|o| o == "ro"), "{mount}");
    }
    let devices = spec["linux"]["devices"].as_array().unwrap();
    assert!(devices.iter().any(|d| d["path"] == "/dev/null" && d["major"] == 1 && d["minor"] == 3));
    assert!(!devices.iter().any(|d| d["path"].as_str().unwrap().starts_with("/dev/pts/")));
    let caps = spec["process"]["capabilities"]["bounding"].as_array().unwrap().len();
    assert_eq!(caps, available_capabilities().len());
}

#[test]
fn capabilities_are_added_and_dropped_by_dockers_rules() {
    let all = ALL_CAPABILITIES;
    let run = |add: &[&str], drop: &[&str]| tweak(&list(add), &list(drop), false, &all).unwrap();
    assert_eq!(run(&[], &[]), list(&DEFAULT_CAPABILITIES));
    assert_eq!(run(&["net_admin"], &["ALL"]), list(&["CAP_NET_ADMIN"]));
    assert_eq!(run(&["cap_sys_admin", "CHOWN"], &["Kill"]).len(), 14);
    assert!(!run(&["ALL"], &["SYS_TIME"]).contains(&"CAP_SYS_TIME".to_owned()));
    assert_eq!(run(&["all"], &["all"]).len(), 41, "ALL in both: added");
    assert_eq!(tweak(&[], &[], true, &all).unwrap().len(), 41);
}

#[test]
fn unknown_capabilities_are_refused_with_dockers_text() {
    let error =
        |add: &[&str], drop: &[&str]| tweak(&list(add), &list(drop), false, &ALL_CAPABILITIES[..5]).unwrap_err();
    assert_eq!(error(&["foo"], &[]), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
    assert_eq!(error(&[], &["cap_bar"]), "invalid CapDrop: unknown capability: \"CAP_BAR\"");
    assert_eq!(
        error(&["BPF"], &[]),
        "invalid CapAdd: capability not supported by your kernel or not available in the current environment: \"CAP_BPF\""
    );
}

#[test]
fn every_capability_name_is_known_to_the_spec_vocabulary() {
    let sets = capability_sets(ALL_CAPABILITIES);
    assert_eq!(sets.bounding().as_ref().unwrap().len(), ALL_CAPABILITIES.len());
}

#[test]
fn a_device_is_found_under_its_host_name_and_put_under_the_container_name() {
    let (devices, rules) = host_devices(Path::new("/dev/null"), Path::new("/dev/hole"), "rw").unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].path(), Path::new("/dev/hole"));
    assert_eq!((devices[0].major(), devices[0].minor()), (1, 3));
    assert_eq!(rules, [device_rule(true, Some(LinuxDeviceType::C), Some(1), Some(3), "rw")]);
}

#[test]
fn a_directory_of_devices_is_walked() {
    let (devices, rules) = host_devices(Path::new("/dev/"), Path::new("/dev/all"), "r").unwrap();
    assert!(devices.iter().any(|d| d.path() == Path::new("/dev/all/zero")));
    assert_eq!(devices.len(), rules.len());
}

#[test]
fn what_is_no_device_is_refused_with_dockers_text() {
    let error = |path: &str| host_devices(Path::new(path), Path::new("/dev/x"), "rwm").unwrap_err();
    let prefix = "error gathering device information while adding custom device";
    assert_eq!(error("/dev/not-there"), format!("{prefix} \"/dev/not-there\": no such file or directory"));
    assert_eq!(error("/etc/passwd"), format!("{prefix} \"/etc/passwd\": not a device node"));
}
