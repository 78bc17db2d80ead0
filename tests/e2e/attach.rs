//! `attach`: the streams of the first process, for as many as want them.

use std::time::Duration;

use hoist_tests::{both, demultiplex, engine};
use serde_json::{Value, json};

#[test]
fn attach_gets_the_output_from_now_on_and_the_exit_code() {
    both(|t| {
        let name = t.name("attach");
        t.cli(&format!("run -di --name {name} busybox sh -c 'echo early; read line; echo got $line; exit 4'")).ok();
        let mut attached = t.spawn(&format!("attach {name}"));
        attached.write(b"hello\n");
        let ran = attached.finish_with_open_stdin().fails_with(4);
        ran.says("got hello").says_not("early");
    });
}

#[test]
fn two_clients_see_the_same_output() {
    both(|t| {
        let name = t.name("attach");
        t.cli(&format!("run -di --name {name} busybox sh -c 'read line; echo $line; read line'")).ok();
        let one = t.spawn(&format!("attach --no-stdin {name}"));
        let two = t.spawn(&format!("attach --no-stdin {name}"));
        // Both must be there before the line is written: the engine has no message for that.
        std::thread::sleep(Duration::from_millis(1000));
        let mut writer = t.spawn(&format!("attach {name}"));
        writer.write(b"both\n");
        writer.wait_for("both").write(b"end\n");
        for reader in [one, two] {
            reader.finish_with_open_stdin().ok().prints("both");
        }
        writer.finish_with_open_stdin().ok();
    });
}

#[test]
fn detach_keys_leave_the_container_running() {
    both(|t| {
        let name = t.name("detach");
        let mut terminal = t.terminal(&format!("run -it --name {name} busybox sh"));
        terminal.expect("/ # ").line("echo $((1+1))").expect("2").expect("/ # ").send("\x10\x11");
        let (code, screen) = terminal.finish();
        assert_eq!(code, 0, "{screen}");
        assert_eq!(t.inspect(&name)["State"]["Running"], true);
        let mut again = t.terminal(&format!("attach --detach-keys ctrl-x,y {name}"));
        again.line("echo $((2+3))").expect("5").send("\x18y");
        assert_eq!(again.finish().0, 1, "where run returns 0, attach returns 1, as docker's");
        let mut last = t.terminal(&format!("attach {name}"));
        last.line("exit 6");
        assert_eq!(last.finish().0, 6);
    });
}

#[test]
fn attach_to_what_does_not_run_is_refused() {
    both(|t| {
        let name = t.name("attach");
        t.cli(&format!("create --name {name} busybox true")).ok();
        t.cli(&format!("attach {name}")).fails_with(1).complains("cannot attach to a stopped container");
    });
}

#[test]
fn start_a_attaches_and_returns_the_exit_code() {
    both(|t| {
        let name = t.name("start");
        t.cli(&format!("create --name {name} busybox sh -c 'echo hello; exit 3'")).ok();
        t.cli(&format!("start -a {name}")).fails_with(3).prints("hello");
        let name = t.name("start");
        t.cli(&format!("create -i --name {name} busybox cat")).ok();
        t.cli_with(&format!("start -ai {name}"), b"typed").ok().prints("typed");
    });
}

/// What a client does that wants to lose nothing: attach, then start.
#[test]
fn attached_before_the_start_nothing_is_lost_and_half_close_keeps_the_output() {
    engine(|t| {
        let api = t.api();
        for _ in 0..10 {
            let name = t.name("first");
            let body = json!({
                "Image": "busybox", "Cmd": ["sh", "-c", "cat; echo end; echo err >&2"], "OpenStdin": true, "StdinOnce": true,
                "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
                "HostConfig": { "AutoRemove": true },
            });
            api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
            let mut stream =
                api.hijack(&format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1&stderr=1"), &Value::Null);
            assert_eq!(stream.status, 101);
            assert_eq!(stream.header("Content-Type"), Some("application/vnd.docker.multiplexed-stream"));
            stream.send(b"typed before the start\n");
            stream.half_close();
            let mut wait = api.stream("POST", &format!("/containers/{name}/wait?condition=removed"), b"");
            assert_eq!(wait.status, 200);
            api.post(&format!("/containers/{name}/start")).status(204);
            let (out, err) = demultiplex(&stream.rest());
            assert_eq!((out.as_str(), err.as_str()), ("typed before the start\nend\n", "err\n"));
            assert_eq!(wait.next_json().unwrap()["StatusCode"], 0);
        }
    });
}

#[test]
fn attach_with_logs_replays_what_was_before() {
    engine(|t| {
        let api = t.api();
        let name = t.name("replay");
        let body = json!({ "Image": "busybox", "Cmd": ["sh", "-c", "echo before; sleep 1; echo after"] });
        api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
        let wait = api.stream("POST", &format!("/containers/{name}/wait?condition=next-exit"), b"");
        api.post(&format!("/containers/{name}/start")).status(204);
        std::thread::sleep(Duration::from_millis(300));
        let stream = api.hijack(&format!("/containers/{name}/attach?logs=1&stream=1&stdout=1&stderr=1"), &Value::Null);
        assert_eq!(demultiplex(&stream.rest()).0, "before\nafter\n");
        wait.rest();
        let replay = api.hijack(&format!("/containers/{name}/attach?logs=1&stdout=1&stderr=1"), &Value::Null);
        assert_eq!(demultiplex(&replay.rest()).0, "before\nafter\n");
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}
