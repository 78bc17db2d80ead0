//! Both dialects, both places a setting may stand in, and what is refused.

use super::*;

fn read_args(args: &[&str]) -> Result<Config, String> {
    let dialect = Dialect::of(&[OsString::from(args[0])]);
    read(args.iter().map(OsString::from).collect(), dialect).map_err(|stop| match stop {
        Stop::Bad(text) => text,
        Stop::Shown(_) => "usage".to_owned(),
    })
}

#[test]
fn both_dialects_name_the_same_things() {
    let ours = read_args(&["engine", "--root", "/a", "--run-dir", "/b", "--config-file", "/dev/null"]).unwrap();
    let docker =
        read_args(&["dockerd", "--data-root", "/a", "--exec-root", "/b", "--config-file", "/dev/null"]).unwrap();
    assert_eq!(ours.settings.root, docker.settings.root);
    assert_eq!(ours.hosts, ["unix:///b/hoist.sock"]);
    assert_eq!(docker.hosts, ["unix:///var/run/docker.sock"]);
    assert!(ours.settings.live.now().live_restore && !docker.settings.live.now().live_restore);
}

#[test]
fn wrong_values_are_named() {
    let text = |args: &[&str]| {
        let mut all = vec!["engine", "--config-file", "/dev/null"];
        all.extend(args);
        read_args(&all).unwrap_err()
    };
    assert!(text(&["--bip", "x"]).contains("--bip"));
    assert!(text(&["--default-runtime", "x"]).contains("'x' does not exist"));
    assert!(text(&["--iptables=false"]).contains("--iptables=false"));
    assert!(text(&["--dns", "nope"]).contains("nope is not an ip address"));
    assert_eq!(text(&["--no-such-flag"]), "usage");
}

#[test]
fn runtimes_are_programs_with_a_name_and_a_place() {
    let read = |value: &str| {
        let read = read_args(&["dockerd", "--config-file", "/dev/null", "--add-runtime", value]);
        read.map(|config| config.settings.live.now().runtimes.values().map(|r| r.path.clone()).collect::<Vec<_>>())
    };
    assert_eq!(read("x=/no/such").unwrap(), [PathBuf::from("/no/such")]);
    assert!(read("x=sh").unwrap()[0].is_absolute());
    assert_eq!(read("x=no-such-program").unwrap(), [PathBuf::from("no-such-program")]);
    for wrong in ["x", "x=", "=/x", "="] {
        let text = format!("invalid runtime specification \"{wrong}\": name=/path is expected");
        assert_eq!(read(wrong).unwrap_err(), text);
    }
    assert_eq!(read("x=a/b").unwrap_err(), "runtimes.x: the path must be absolute, \"a/b\" is not");
    assert_eq!(read("runc=/x").unwrap_err(), "runtime name 'runc' is reserved");
}

#[test]
fn registries_are_named_as_dockerd_wants_them() {
    let read = |flag: &str| read_args(&["dockerd", "--config-file", "/dev/null", flag]);
    let text = |mirror: &str| read(&format!("--registry-mirror={mirror}")).unwrap_err();
    let schemes = "must use either 'https://' or 'http://'";
    assert_eq!(text("foo"), format!("invalid mirror: no scheme specified for \"foo\": {schemes}"));
    assert_eq!(text("ftp://x"), format!("invalid mirror: unsupported scheme \"ftp\" in \"ftp://x\": {schemes}"));
    assert_eq!(text("http://u:p@x"), "invalid mirror: username/password not allowed in URI \"http://u:xxxxx@x\"");
    assert_eq!(text("http://x?a"), "invalid mirror: query or fragment at end of the URI \"http://x?a\"");
    assert!(text("http://x y").ends_with("is not a valid URI"));
    for good in ["http://x", "HTTPS://x:5000/", "https://x/path/"] {
        assert!(read(&format!("--registry-mirror={good}")).is_ok(), "{good}");
    }
    let wrong = read("--insecure-registry=-x").unwrap_err();
    assert_eq!(wrong, "invalid index name (-x). Cannot begin or end with a hyphen");
    assert!(read("--insecure-registry=http://x").is_ok());
}

#[test]
fn a_setting_in_both_places_is_refused() {
    let path = std::env::temp_dir().join(format!("hoist-config-{}.json", std::process::id()));
    std::fs::write(&path, r#"{"dns":["1.1.1.1"],"mtu":1400}"#).unwrap();
    let file = path.to_str().unwrap();
    let config = read_args(&["engine", "--config-file", file]).unwrap();
    assert_eq!((config.settings.dns, config.settings.network.mtu), (vec!["1.1.1.1".to_owned()], 1400));
    assert!(read_args(&["engine", "--config-file", file, "--mtu", "1"]).unwrap_err().contains("both"));
    std::fs::write(&path, r#"{"nope":1}"#).unwrap();
    assert!(read_args(&["engine", "--config-file", file]).unwrap_err().contains("nope"));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn what_only_dockers_engine_has_is_refused_by_name() {
    let text = |flag: &str| read_args(&["dockerd", "--config-file", "/dev/null", flag]).unwrap_err();
    for flag in
        ["--tlsverify", "--userns-remap=x", "--ipv6", "--exec-opt=native.cgroupdriver=systemd", "--log-format=json"]
    {
        let name = flag.split('=').next().unwrap_or_default();
        assert!(
            text(flag).starts_with(name) && text(flag).ends_with("is not supported by this engine"),
            "{}",
            text(flag)
        );
    }
    let harmless = ["--tlsverify=false", "--seccomp-profile=builtin", "--exec-opt=native.cgroupdriver=cgroupfs"];
    for flag in harmless {
        assert!(read_args(&["dockerd", "--config-file", "/dev/null", flag]).is_ok(), "{flag}");
    }
    let path = std::env::temp_dir().join(format!("hoist-refused-{}.json", std::process::id()));
    std::fs::write(&path, r#"{"features":{"containerd-snapshotter":true}}"#).unwrap();
    let error = read_args(&["dockerd", "--config-file", path.to_str().unwrap()]).unwrap_err();
    assert!(error.starts_with("--feature=containerd-snapshotter=true is not supported"), "{error}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn numbers_have_dockers_defaults_and_limits() {
    let read = |flag: &str| read_args(&["dockerd", "--config-file", "/dev/null", flag]);
    let live = |flag: &str| read(flag).unwrap().settings.live.now();
    assert_eq!(live("--debug").shutdown_timeout_s, 15);
    assert_eq!(live("--shutdown-timeout=-1").shutdown_timeout_s, -1);
    assert_eq!(live("--max-concurrent-downloads=7").image.max_concurrent_downloads, Some(7));
    assert_eq!(live("--max-concurrent-downloads=0").image.max_concurrent_downloads, None);
    assert_eq!(read("--max-concurrent-downloads=-1").unwrap_err(), "invalid max concurrent downloads: -1");
    assert!(read("--max-download-attempts=x").unwrap_err().contains("--max-download-attempts"));
}

#[test]
fn a_signature_policy_is_read_whole_at_the_start() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("policy.json");
    let flag = format!("--signature-policy={}", path.display());
    let read = || read_args(&["hoist engine", "--config-file", "/dev/null", &flag]);
    assert!(read().unwrap_err().contains(&path.display().to_string()));
    std::fs::write(&path, r#"{"default":[{"type":"signedBy"}]}"#).unwrap();
    assert!(read().unwrap_err().contains("signedBy (GPG) is not supported"));
    std::fs::write(&path, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    assert_eq!(read().unwrap().settings.live.now().image.signature_policy.as_ref().unwrap().path(), path);
}

#[test]
fn the_share_of_the_disk_is_a_size_or_per_cent() {
    use hoist_engine::MaxDisk;
    let read = |value: &str| read_args(&["hoist engine", "--config-file", "/dev/null", &format!("--max-disk={value}")]);
    let max = |value: &str| read(value).unwrap().settings.live.now().max_disk;
    assert_eq!(max("20G"), Some(MaxDisk::Bytes(20 << 30)));
    assert_eq!(max("512MiB"), Some(MaxDisk::Bytes(512 << 20)));
    assert_eq!(max("1t"), Some(MaxDisk::Bytes(1 << 40)));
    assert_eq!((max("30%"), max("0")), (Some(MaxDisk::Percent(30)), None));
    for bad in ["", "much", "-1", "0%", "101%", "1.5%", "5X", "%"] {
        let refusal = read(bad).unwrap_err();
        assert!(refusal.contains("--max-disk"), "{bad}: {refusal}");
    }
}
