//! The command line end to end against a scripted engine: requests sent, output, exit status.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Engine, Request, answer, become_the_command_line, scratch, spawn};

#[test]
fn entry_of_the_command_line() {
    become_the_command_line();
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0];
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out
}

fn control(value: &Value) -> Vec<u8> {
    frame(16, value.to_string().as_bytes())
}

fn read_frame(stream: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut head = [0; 8];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

const UPGRADED: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

#[test]
fn run_in_one_request_passes_streams_and_the_exit_status() {
    let engine = Engine::start(|request, stream| {
        assert!(request.is("POST", "/hoist/run"), "{}", request.line);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["HoistRun"]["Attach"], json!(["stdin", "stdout", "stderr"]));
        assert_eq!(body["Image"], "busybox");
        stream.write_all(UPGRADED).unwrap();
        stream.write_all(&control(&json!({"Id": "abc", "Warnings": ["careful"]}))).unwrap();
        let (kind, input) = read_frame(stream);
        assert_eq!(kind, 0);
        stream.write_all(&frame(1, &input)).unwrap();
        stream.write_all(&frame(2, b"complaint\n")).unwrap();
        let (kind, end) = read_frame(stream);
        assert_eq!((kind, serde_json::from_slice::<Value>(&end).unwrap()), (16, json!({"CloseStdin": true})));
        stream.write_all(&control(&json!({"ExitCode": 7, "Error": ""}))).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let file = scratch("cid");
    let output = engine.run_with(&["run", "-i", "--cidfile", file.to_str().unwrap(), "busybox", "cat"], b"hello\n");
    assert_eq!((output.code, output.stdout.as_str()), (7, "hello\n"));
    assert_eq!(output.stderr, "WARNING: careful\ncomplaint\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "abc");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_failed_run_names_its_reason_and_takes_its_exit_status_from_it() {
    let engine = Engine::start(|_, stream| {
        let body = json!({"message": "exec: \"x\": executable file not found in $PATH"}).to_string();
        let head =
            format!("HTTP/1.1 400 Bad Request\r\nX-Hoist-Container: abc\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    });
    let file = scratch("cid");
    let output = engine.run(&["run", "--cidfile", file.to_str().unwrap(), "busybox", "x"]);
    assert_eq!(output.code, 127);
    assert_eq!(
        output.stderr,
        "hoist: Error response from daemon: exec: \"x\": executable file not found in $PATH\n\nRun 'hoist run --help' for more information\n"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "abc");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_signal_is_passed_on_over_the_same_connection() {
    let engine = Engine::start(|_, stream| {
        stream.write_all(UPGRADED).unwrap();
        stream.write_all(&control(&json!({"Id": "abc"}))).unwrap();
        let (_, closed) = read_frame(stream);
        assert_eq!(serde_json::from_slice::<Value>(&closed).unwrap(), json!({"CloseStdin": true}));
        stream.write_all(&frame(1, b"ready\n")).unwrap();
        let (_, message) = read_frame(stream);
        assert_eq!(serde_json::from_slice::<Value>(&message).unwrap(), json!({"Signal": "SIGTERM"}));
        stream.write_all(&control(&json!({"ExitCode": 143}))).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let running = engine.spawn(&["run", "busybox", "sleep", "100"]);
    let begin = Instant::now();
    while running.stdout() != "ready\n" && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.finish().code, 143);
}

/// An engine of Docker's: no `/hoist/run`, and the image is missing until it is pulled.
fn docker_engine(request: &Request, stream: &mut UnixStream, pulled: &std::sync::atomic::AtomicBool) {
    use std::sync::atomic::Ordering;
    if request.is("POST", "/hoist/run") {
        answer(stream, "404 Not Found", r#"{"message":"page not found"}"#);
    } else if request.is("POST", "/containers/create") {
        match pulled.load(Ordering::SeqCst) {
            true => answer(stream, "201 Created", r#"{"Id":"abc","Warnings":[]}"#),
            false => answer(stream, "404 Not Found", r#"{"message":"No such image: b:1"}"#),
        }
    } else if request.is("POST", "/images/create") {
        pulled.store(true, Ordering::SeqCst);
        let lines = "{\"status\":\"Pulling from library/b\",\"id\":\"1\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"x\"}\r\n{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"x\"}\r\n";
        answer(stream, "200 OK", lines);
    } else if request.is("POST", "/containers/abc/attach") {
        stream.write_all(UPGRADED).unwrap();
        stream.write_all(&frame(1, b"out\n")).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    } else if request.is("POST", "/containers/abc/wait") {
        answer(stream, "200 OK", r#"{"StatusCode":3}"#);
    } else if request.is("POST", "/containers/abc/start") {
        answer(stream, "204 No Content", "");
    } else {
        answer(stream, "500 Internal Server Error", &format!("{{\"message\":\"unexpected {}\"}}", request.line));
    }
}

#[test]
fn without_our_route_run_takes_docker_s_steps_and_pulls_what_is_missing() {
    let pulled = std::sync::atomic::AtomicBool::new(false);
    let engine = Engine::start(move |request, stream| docker_engine(request, stream, &pulled));
    let output = engine.run(&["run", "b:1"]);
    assert_eq!((output.code, output.stdout.as_str()), (3, "out\n"), "{}", output.stderr);
    assert_eq!(output.stderr, "Unable to find image 'b:1' locally\n1: Pulling from library/b\nx: Pull complete\n");
    let seen: Vec<String> =
        engine.seen.lock().unwrap().iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(
        seen,
        [
            "/v1.53/hoist/run",
            "/v1.53/containers/create",
            "/v1.53/images/create?fromImage=docker.io%2Flibrary%2Fb&tag=1",
            "/v1.53/containers/create",
            "/v1.53/containers/abc/attach?stream=1&stdout=1&stderr=1",
            "/v1.53/containers/abc/wait?condition=next-exit",
            "/v1.53/containers/abc/start",
        ]
    );
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let output = spawn(&["ps"], &[("HOIST_HOST", "unix:///nonexistent/x.sock")]).finish();
    assert_eq!(output.code, 1);
    assert_eq!(
        output.stderr,
        "Cannot connect to the Hoist daemon at unix:///nonexistent/x.sock. Is the hoist daemon running?\n"
    );
}

#[test]
fn filters_and_flags_of_ps_reach_the_engine() {
    let engine = Engine::start(|_, stream| answer(stream, "200 OK", "[]"));
    let output = engine.run(&["ps", "-a", "-n", "3", "-f", "label=a=b", "-f", "status=running", "-s"]);
    assert_eq!(output.stdout, "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES     SIZE\n");
    let seen = engine.seen.lock().unwrap()[0].clone();
    assert_eq!(
        seen,
        "GET /v1.53/containers/json?all=1&size=1&limit=3&filters=%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%2C%22status%22%3A%7B%22running%22%3Atrue%7D%7D HTTP/1.1"
    );
}

#[test]
fn every_operand_is_tried_and_one_failure_is_a_failure() {
    let engine = Engine::start(|request, stream| match request.is("POST", "/containers/b/stop") {
        true => answer(stream, "404 Not Found", r#"{"message":"No such container: b"}"#),
        false => answer(stream, "204 No Content", ""),
    });
    let output = engine.run(&["stop", "-t", "2", "a", "b", "c"]);
    assert_eq!((output.code, output.stdout.as_str()), (1, "a\nc\n"));
    assert_eq!(output.stderr, "Error response from daemon: No such container: b\n");
}

#[test]
fn unsupported_ways_to_connect_are_refused_by_name() {
    for (args, text) in [
        (&["--context", "far", "ps"][..], "context \"far\""),
        (&["--tlsverify", "ps"][..], "--tlsverify"),
        (&["-H", "ssh://far", "ps"][..], "\"ssh\""),
    ] {
        let output = spawn(args, &[]).finish();
        assert!(output.code != 0 && output.stderr.contains(text), "{args:?}: {}", output.stderr);
    }
}

/// What a command prints and complains of where the routes of our own engine answer in this way.
fn with_our_routes_answering(args: &[&str], status: &'static str, message: &'static str) -> (i32, String) {
    let engine = Engine::start(move |request, stream| match request.line.contains("/hoist/") {
        true => answer(stream, status, &json!({"message": message}).to_string()),
        false if request.line.contains("/system/df") => answer(stream, "200 OK", "{}"),
        false => answer(stream, "404 Not Found", r#"{"message":"No such container: x"}"#),
    });
    let output = engine.run(args);
    (output.code, output.stderr)
}

#[test]
fn failures_of_our_own_routes_are_told_and_other_engines_lack_of_them_is_not() {
    let broken = |args: &[&str]| with_our_routes_answering(args, "500 Internal Server Error", "disk on fire");
    let lacking = |args: &[&str]| with_our_routes_answering(args, "404 Not Found", "page not found");
    let told = (1, "Error response from daemon: disk on fire\n".to_owned());
    assert_eq!(broken(&["system", "df"]), told);
    assert_eq!(broken(&["diff", "x"]), told);
    assert_eq!(lacking(&["system", "df"]), (0, String::new()));
    let no_container = (1, "Error response from daemon: No such container: x\n".to_owned());
    assert_eq!(lacking(&["diff", "x"]), no_container);
    assert_eq!(with_our_routes_answering(&["diff", "x"], "404 Not Found", "No such image: x:latest"), no_container);
    for command in ["pin", "unpin", "verify", "diff"] {
        let explained =
            format!("image {command} is for engines of Hoist only: the engine at the other end is another one\n");
        assert_eq!(lacking(&["image", command, "x"]), (1, explained));
    }
}

#[test]
fn an_archive_that_cannot_be_read_to_its_end_is_broken_off_and_told() {
    let engine = Engine::start(|_, stream| answer(stream, "200 OK", ""));
    // it can be opened, and reading its beginning fails
    let broken = "/proc/self/mem";
    for args in [&["load", "-i", broken][..], &["import", broken]] {
        let output = engine.run(args);
        assert_eq!((output.code, output.stderr), (1, format!("read {broken}: input/output error\n")), "{args:?}");
    }
    for args in [&["load", "-i", "/"][..], &["import", "/"]] {
        let output = engine.run(args);
        assert_eq!((output.code, output.stderr.as_str()), (1, "read /: is a directory\n"), "{args:?}");
    }
    let output = engine.run_on_directory(&["load"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, "read /dev/stdin: is a directory\n"));
}

#[test]
fn what_cannot_be_asked_is_refused_without_a_request() {
    let engine = Engine::start(|_, stream| answer(stream, "200 OK", "{}"));
    let digest = format!("busybox@sha256:{}", "0a".repeat(32));
    let platform = "\"a/b/c/d\": cannot parse platform specifier: invalid argument";
    let of_create = format!("error parsing specified platform: {platform}");
    let of_run = format!("hoist: {of_create}\n\nRun 'hoist run --help' for more information");
    for (args, code, why) in [
        (&["push", &digest][..], 1, "cannot push a digest reference"),
        (&["push", "-q", &digest], 1, "cannot push a digest reference"),
        (&["rmi", "--platform", "a/b/c/d", "x"], 1, platform),
        (&["create", "--platform", "a/b/c/d", "x"], 1, &of_create),
        (&["run", "--platform", "a/b/c/d", "x"], 125, &of_run),
    ] {
        let output = engine.run(args);
        assert_eq!((output.code, output.stderr), (code, format!("{why}\n")), "{args:?}");
    }
    assert_eq!(engine.seen.lock().unwrap().len(), 0);
}

#[test]
fn an_empty_time_is_none() {
    let engine = Engine::start(|_, stream| answer(stream, "200 OK", "{}"));
    for args in [&["events", "--since", "", "--until", ""][..], &["logs", "--since", "", "--until", "", "c"]] {
        let output = engine.run(args);
        assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
    }
    assert!(engine.seen.lock().unwrap().iter().all(|line| !line.contains("since") && !line.contains("until")));
}

#[test]
fn sizes_are_for_containers_alone() {
    let engine = Engine::start(|request, stream| match request.line.contains("/images/") {
        true => answer(stream, "200 OK", r#"{"Id":"sha256:0","Config":{}}"#),
        false => answer(stream, "404 Not Found", r#"{"message":"No such container: b"}"#),
    });
    let output = engine.run(&["inspect", "-s", "-f", "{{.Config.User}}|{{.Config.Entrypoint}}", "b"]);
    assert_eq!((output.code, output.stdout.as_str()), (0, "|[]\n"));
    assert_eq!(output.stderr, "WARNING: --size ignored for image\n");
}

#[test]
fn what_is_deprecated_is_done_and_told() {
    let engine = Engine::start(|request, stream| match request.is("POST", "/create") {
        true => answer(stream, "201 Created", r#"{"Id":"abc"}"#),
        false => answer(stream, "204 No Content", ""),
    });
    let output = engine.run(&["stop", "--time", "2", "a"]);
    assert_eq!((output.code, output.stdout.as_str()), (0, "a\n"));
    assert_eq!(output.stderr, "Flag --time has been deprecated, use --timeout instead\n");
    assert!(engine.seen.lock().unwrap()[0].contains("/containers/a/stop?t=2 "));
    let output = engine.run(&["create", "--mount", "type=bind,src=/a,dst=/b,bind-nonrecursive=false", "x"]);
    assert_eq!((output.code, output.stdout.as_str()), (0, "abc\n"));
    assert_eq!(output.stderr, "WARNING: bind-nonrecursive is deprecated, use bind-recursive=disabled instead\n");
}
