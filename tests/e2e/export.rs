//! A container's root as an archive: complete, without volumes, and the same again when it is imported.

use hoist_tests::{both, engine};

const CHANGES: &str = "mkdir -p /d/deep; echo new > /d/file; ln /d/file /d/second; ln -s file /d/link; mkfifo /d/pipe; \
    mknod /d/null c 1 3; chmod 4711 /d/file; rm /etc/group; rm -rf /home; mkdir /home; echo kept > /home/new; \
    echo x > /volume/x";

const LOOK: &str = "cat /d/file /d/second /home/new; ls -a /etc /home /d /bin; stat -c '%n %F %a %u %g %h %s %Y' /d/* /home /bin/sh; \
    ls -A /volume";

#[test]
fn an_export_that_is_imported_is_the_same_root() {
    both(|t| {
        let (name, image) = (t.name("export"), t.name("imported"));
        t.args(&["create", "--name", &name, "-v", "/volume", "busybox", "sh", "-c", &format!("{CHANGES}; {LOOK}")])
            .ok();
        t.cli(&format!("start -a {name}")).ok();
        let before = t.cli(&format!("logs {name}")).ok().stdout;
        t.cli(&format!("export -o root.tar {name}")).ok().prints("");
        t.cli(&format!("import root.tar {image}")).ok();
        let after = t.args(&["run", "--rm", &image, "sh", "-c", LOOK]).ok();
        after.prints(before.trim_end().strip_suffix("x").unwrap());
        let piped = t.shell(&format!("docker export {name} | cmp - root.tar"));
        piped.ok();
        t.cli(&format!("rmi {image}")).ok();
    });
}

#[test]
fn running_and_unstarted_containers_are_exported() {
    both(|t| {
        let (running, created) = (t.name("running"), t.name("created"));
        t.args(&["run", "-d", "--name", &running, "busybox", "sh", "-c", "echo x > /written; sleep 1000"]).ok();
        while t.cli(&format!("exec {running} cat /written")).stdout != "x\n" {}
        t.shell(&format!("docker export {running} | tar -xO written")).ok().prints("x");
        t.cli(&format!("create --name {created} busybox true")).ok();
        let listed = t.shell(&format!("docker export {created} | tar -t")).ok();
        for path in ["bin/busybox", "etc/passwd", ".dockerenv", "proc/", "dev/console"] {
            assert!(listed.lines().contains(&path), "{path}: {listed}");
        }
    });
}

#[test]
fn exports_that_cannot_be_are_refused() {
    both(|t| {
        let name = t.name("refused");
        t.cli(&format!("create --name {name} busybox true")).ok();
        let terminal = t.terminal(&format!("export {name}"));
        let (code, screen) = terminal.finish();
        assert_eq!(code, 1, "{screen}");
        assert!(screen.contains("cowardly refusing to save to a terminal. Use the -o flag or redirect"), "{screen}");
        t.cli(&format!("export -o /no/such/x {name}"))
            .fails_with(1)
            .complains("failed to export container: invalid output path");
        t.cli(&format!("export -o . {name}"))
            .fails_with(1)
            .complains("failed to export container: cannot write to a directory");
        t.cli("export -o x.tar no-such").fails_with(1).complains("No such container: no-such");
        assert!(!t.home().join("x.tar").exists());
    });
}

#[test]
fn an_export_is_an_event() {
    engine(|t| {
        let body = serde_json::json!({ "Image": "busybox", "Cmd": ["true"] });
        let id = t.api().post_json("/containers/create", &body).status(201).json()["Id"].as_str().unwrap().to_owned();
        let seconds = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let since = seconds();
        let answer = t.api().get(&format!("/containers/{id}/export")).status(200);
        assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
        let events = t.api().get(&format!("/events?since={since}&until={}", seconds() + 1)).json_lines();
        let exported = events.iter().find(|event| event["Action"] == "export").expect("an export event");
        assert_eq!(exported["Actor"]["ID"], id.as_str());
        t.api().delete(&format!("/containers/{id}")).status(204);
    });
}
