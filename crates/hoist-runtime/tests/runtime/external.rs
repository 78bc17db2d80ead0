//! The same supervisor over another OCI runtime.

use std::path::Path;

use hoist_runtime::launch::ExternalRuntime;
use hoist_runtime::protocol::FailureKind;
use hoist_runtime::spawner::Spawner;

use super::Test;
use super::container::{Container, demultiplex};

pub(crate) const TESTS: &[Test] = &[
    ("runc_makes_a_container_with_streams_log_and_exit_code", |spawner| with_runc(spawner, runs)),
    ("runc_says_what_is_wrong_with_a_command", |spawner| with_runc(spawner, failure)),
    ("runc_makes_a_container_with_a_terminal", |spawner| with_runc(spawner, terminal)),
    ("another_runtime_mounts_parts_of_sources_as_they_are_at_the_start", |spawner| {
        with_parts(spawner, own_runtime());
        with_runc(spawner, with_parts);
    }),
    ("a_runtime_that_is_not_there_is_named", missing),
];

/// The runtime that others wrote and every machine can run. (crun of Debian bookworm does not, where there are control groups of both versions.)
fn with_runc(spawner: &Spawner, test: fn(&Spawner, ExternalRuntime)) {
    let places = ["/usr/sbin/runc", "/usr/bin/runc"].map(Path::new);
    match places.into_iter().find(|path| path.exists()) {
        Some(path) => test(spawner, ExternalRuntime { path: path.to_owned(), args: Vec::new() }),
        None => {
            println!("skipped: no runc");
            assert!(std::env::var_os("HOIST_TEST_REQUIRE").is_none(), "runc is required");
        }
    }
}

fn container(args: &[&str], runtime: ExternalRuntime) -> Container {
    let mut container = Container::new(args);
    container.launch.external_runtime = Some(runtime);
    container.with_log()
}

/// Ours, as any other.
fn own_runtime() -> ExternalRuntime {
    ExternalRuntime { path: std::env::current_exe().unwrap(), args: vec![super::AS_RUNTIME.to_owned()] }
}

fn runs(spawner: &Spawner, runtime: ExternalRuntime) {
    let script = "echo out; echo err >&2; cat /proc/1/comm; read x; exit 11";
    let mut container = container(&["sh", "-c", script], runtime);
    container.launch.stdio.open_stdin = true;
    let mut running = container.run(spawner);
    let pid = running.started();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    running.write(b"x\n");
    let output = running.read_to_end();
    assert_eq!(demultiplex(&output, 1), b"out\nsh\n");
    assert_eq!(demultiplex(&output, 2), b"err\n");
    assert_eq!(running.end().unwrap().exit_code, 11);
    container.assert_nothing_left();
    assert!(!container.directory.join("run/bundle").exists());
    assert_eq!(container.log_entries().len(), 3);
}

fn failure(spawner: &Spawner, runtime: ExternalRuntime) {
    let container = container(&["nope"], runtime);
    let failure = container.failure(spawner);
    assert_eq!(failure.kind, FailureKind::NotFound);
    for words in ["nope", "executable file", "not found in $PATH"] {
        assert!(failure.message.contains(words), "{failure}");
    }
    assert!(!failure.message.contains("runc create failed"), "{failure}");
    container.assert_nothing_left();
}

fn terminal(spawner: &Spawner, runtime: ExternalRuntime) {
    let mut container = container(&["sh", "-c", "stty size; tty; read x; echo got $x"], runtime);
    container.launch.stdio.tty = true;
    container.launch.stdio.open_stdin = true;
    container.launch.stdio.console_size = (12, 34);
    let mut running = container.run(spawner);
    running.read_until("12 34\r\n/dev/pts/0\r\n");
    running.write(b"word\n");
    assert!(String::from_utf8(running.read_to_end()).unwrap().ends_with("got word\r\n"));
    assert_eq!(running.end().unwrap().exit_code, 0);
    container.assert_nothing_left();
}

fn with_parts(spawner: &Spawner, runtime: ExternalRuntime) {
    let script = "cat /part/file /only-file; test -e /absent/proc && echo out; true";
    let mut container = container(&["sh", "-c", script], runtime);
    container.bind_parts();
    assert_eq!(container.stdout(spawner), "inside\nonly\n");
    container.assert_nothing_left();
    assert!(!container.directory.join("run/bundle").exists());
}

fn missing(spawner: &Spawner) {
    let mut container = Container::new(&["true"]);
    container.launch.external_runtime = Some(ExternalRuntime { path: "/no/such/runtime".into(), args: Vec::new() });
    assert_eq!(container.failure(spawner).message, "runtime /no/such/runtime was not found");
    container.assert_nothing_left();
}
