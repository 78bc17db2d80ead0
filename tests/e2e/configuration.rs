//! The engine's own command line and configuration file: checking, reloading, and settings that show in the network.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use hoist_tests::{Bed, Cli, Engine, Image, engine, eventually, skip};
use rustix::process::{Signal, kill_process};

use crate::network::get;

/// A file with this text in a directory that lives as long as the first value.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("engine.json");
    std::fs::write(&path, text).unwrap();
    (directory, path.display().to_string())
}

fn info(t: &Bed, template: &str) -> String {
    t.args(&["info", "-f", template]).ok().text().trim().to_owned()
}

#[test]
fn a_hangup_reloads_the_file_and_a_wrong_one_changes_nothing() {
    if Engine::start(&[]).own_binary().is_none() {
        skip!("own-engine", "reloads the engine");
    }
    let (_directory, path) = file(r#"{"labels":["a=1"],"max-concurrent-downloads":2}"#);
    let t = Bed::new(Cli::Docker, &["--config-file".to_owned(), path.clone()]);
    assert_eq!((info(&t, "{{.Labels}}"), info(&t, "{{.Debug}}")), ("[a=1]".to_owned(), "false".to_owned()));
    let hangup = || kill_process(t.engine.pid().unwrap(), Signal::HUP).unwrap();
    let new = r#"{"labels":["b=2"],"debug":true,"registry-mirrors":["http://127.0.0.1:9"],"insecure-registries":["x.test"],
        "live-restore":false,"runtimes":{"other":{"path":"/bin/true"}},"default-runtime":"other","shutdown-timeout":3}"#;
    let mut events = t.spawn("events --filter type=daemon --format '{{.Action}} {{.Actor.Attributes.labels}}'");
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(&path, new).unwrap();
    hangup();
    events.wait_for(r#"reload ["b=2"]"#);
    let shown =
        info(&t, "{{.Labels}} {{.Debug}} {{.LiveRestoreEnabled}} {{.DefaultRuntime}} {{.RegistryConfig.Mirrors}}");
    assert_eq!(shown, "[b=2] true false other [http://127.0.0.1:9/]");
    assert!(info(&t, "{{json .RegistryConfig.IndexConfigs}}").contains("x.test"));
    for wrong in [r#"{"nonsense":1}"#, "{", r#"{"default-runtime":"nowhere"}"#, r#"{"bridge":"x"}"#] {
        std::fs::write(&path, wrong).unwrap();
        let before = t.engine.log().matches("not reloaded").count();
        hangup();
        eventually("the refusal is logged", || t.engine.log().matches("not reloaded").count() > before);
        assert_eq!(info(&t, "{{.Labels}}"), "[b=2]", "{wrong}");
    }
    std::fs::write(&path, r#"{"labels":["c=3"]}"#).unwrap();
    hangup();
    eventually("the next good file is taken", || info(&t, "{{.Labels}} {{.DefaultRuntime}}") == "[c=3] runc");
    t.cli("run --rm busybox true").ok();
}

#[test]
fn a_configuration_can_be_checked_without_an_engine() {
    engine(|t| {
        let Some(binary) = t.engine.own_binary() else { skip!("own-engine", "runs our engine") };
        let check = |text: &str, flags: &[&str]| {
            let (_directory, path) = file(text);
            let mut command = Command::new(&binary);
            command.args(["engine", "--validate", "--config-file", &path]).args(flags);
            let output = command.output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        assert_eq!(check(r#"{"mtu":1400}"#, &[]), (Some(0), "configuration OK\n".to_owned()));
        let (code, text) = check(r#"{"mtu":1400}"#, &["--mtu", "1500"]);
        assert!(code == Some(1) && text.contains("both as a flag and in the configuration file: mtu"), "{text}");
        let (code, text) = check(r#"{"nope":1}"#, &[]);
        assert!(code == Some(1) && text.contains("don't match any configuration option: nope"), "{text}");
        let (code, text) = check("{}", &["--tlsverify"]);
        assert!(code == Some(1) && text.contains("--tlsverify"), "{text}");
    });
}

#[test]
fn without_the_proxy_published_ports_are_nat_alone() {
    if Engine::start(&[]).own_binary().is_none() {
        skip!("own-engine", "needs an option of the engine");
    }
    let mut t = Bed::new(Cli::Docker, &["--userland-proxy=false".to_owned()]);
    t.load_once("nginx:latest", &Image::nginx());
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    t.cli(&format!("run -d --name web -p {port}:80 nginx")).ok();
    let answers = |host: &str| get(&format!("{host}:{port}")).is_ok_and(|text| text.contains("Welcome to nginx!"));
    eventually("loopback answers", || answers("127.0.0.1"));
    assert!(!answers("[::1]"), "nobody serves IPv6");
    // The port is kept from others all the same.
    assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
    // What the host serves on loopback alone stays out of the containers' reach.
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let own_port = own.local_addr().unwrap().port();
    own.set_nonblocking(true).unwrap();
    let script = format!("ip route add 127.0.0.2/32 dev eth0; nc -w 1 127.0.0.2 {own_port} </dev/null");
    t.args(&["run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", &script]);
    assert!(own.accept().is_err());
    t.engine.kill();
    t.engine.start_again();
    eventually("loopback answers after a restart", || answers("127.0.0.1"));
    t.cli("rm -f web").ok();
    assert!(!answers("127.0.0.1"));
    assert!(TcpListener::bind(("0.0.0.0", port)).is_ok());
}

#[test]
fn an_engine_that_cannot_start_leaves_neither_socket_nor_pid_file() {
    engine(|t| {
        let Some(binary) = t.engine.own_binary() else { skip!("own-engine", "runs our engine") };
        let other = tempfile::tempdir().unwrap();
        let (socket, pid_file) = (other.path().join("b.sock"), other.path().join("b.pid"));
        let mut command = Command::new(&binary);
        // The root of an engine that runs, with everything else its own.
        command.args(["engine", "--bridge", "ht-never", "--root"]).arg(t.engine.directory().join("d"));
        command.arg("--run-dir").arg(other.path().join("run")).arg("--pidfile").arg(&pid_file);
        command.args(["-H", &format!("unix://{}", socket.display())]);
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(1) && said.contains("another engine uses "), "{said}");
        assert!(!socket.exists() && !pid_file.exists(), "{said}");
        let second = Command::new(&binary)
            .args([
                "engine",
                "--bridge",
                "ht-never",
                "-H",
                &format!("unix://{}", socket.display()),
                "-H",
                "tcp://nonsense",
            ])
            .arg("--root")
            .arg(other.path().join("root"))
            .arg("--run-dir")
            .arg(other.path().join("run"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(second.status.code() == Some(1) && said.contains("tcp://nonsense"), "{said}");
        assert!(!socket.exists(), "{said}");
        t.cli("run --rm busybox true").ok();
    });
}
