//! `--runtime`: another OCI runtime (runc) behind the same supervisor.

use std::path::Path;

use hoist_tests::{Bed, Cli, skipped};

fn runc() -> Option<&'static Path> {
    ["/usr/sbin/runc", "/usr/bin/runc"].map(Path::new).into_iter().find(|path| path.exists())
}

fn with_runc(options: &[&str], test: impl Fn(&Bed)) {
    let Some(path) = runc() else {
        return skipped("runc", "it is not installed");
    };
    for cli in [Cli::Docker, Cli::Hoist] {
        println!("=== with {cli:?}");
        let register = format!("--add-runtime=other={}", path.display());
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).chain([register]).collect();
        let t = Bed::new(cli, &options);
        // A peer has the runtimes that it was started with.
        if t.engine.is_own() {
            test(&t);
        }
    }
}

#[test]
fn containers_of_another_runtime_live_as_those_of_ours() {
    with_runc(&[], |t| {
        t.cli("run --rm --runtime other busybox sh -c 'echo out; echo err >&2; exit 7'").fails_with(7).prints("out");
        t.cli_with("run --rm -i --runtime other busybox cat", b"piped").ok().prints("piped");
        let name = t.name("other");
        let line = format!("run -d --runtime other --name {name} -m 64m -e A=b -p 127.0.0.1::80 busybox sleep 1000");
        t.cli(&line).ok();
        assert_eq!(t.inspect(&name)["HostConfig"]["Runtime"], "other");
        t.cli(&format!("port {name}")).ok().says("80/tcp -> 127.0.0.1:");
        t.cli(&format!("exec {name} sh -c 'echo $A'")).ok().prints("b");
        t.cli(&format!("pause {name}")).ok();
        t.cli(&format!("unpause {name}")).ok();
        t.cli(&format!("kill {name}")).ok();
        t.cli(&format!("start {name}")).ok();
        t.cli(&format!("stop -t 0 {name}")).ok();
        assert_eq!(t.inspect(&name)["State"]["ExitCode"], 137);
        t.cli(&format!("rm {name}")).ok();
    });
}

#[test]
fn another_runtime_has_terminals_and_says_what_cannot_be_executed() {
    with_runc(&[], |t| {
        let mut terminal = t.terminal("run --rm -it --runtime other busybox sh");
        terminal.expect("/ # ").line("tty").expect("/dev/pts/0").expect("/ # ").line("exit 3");
        assert_eq!(terminal.finish().0, 3);
        t.cli("run --rm --runtime other busybox no-such-command").fails_with(127).complains("no-such-command");
        t.cli(&format!("run --rm --runtime {} busybox echo hello", runc().unwrap().display())).ok().prints("hello");
        t.cli("run --rm --runtime /none-such busybox true")
            .fails_with(125)
            .complains("invalid runtime name: /none-such");
        t.cli("run --rm --runtime none-such busybox true").fails_with(125).complains("none-such");
    });
}

#[test]
fn an_engine_may_have_another_runtime_by_default() {
    with_runc(&["--default-runtime=other"], |t| {
        t.cli("run --rm busybox echo hello").ok().prints("hello");
        t.cli("run --rm --runtime hoist busybox echo hello").ok().prints("hello");
        t.cli("info --format '{{.DefaultRuntime}}'").ok().prints("other");
    });
}
