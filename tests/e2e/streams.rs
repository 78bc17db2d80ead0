//! What makes a client hang rather than fail: headers that wait, streams that do not end, bodies that nobody reads.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hoist_tests::{Bed, Image, demultiplex, engine, skip};
use serde_json::{Value, json};

fn create(t: &Bed, name: &str, body: Value) {
    t.api().post_json(&format!("/containers/create?name={name}"), &body).status(201);
}

#[test]
fn a_failed_start_with_auto_remove_completes_the_wait_for_removal() {
    engine(|t| {
        let api = t.api();
        let name = t.name("broken");
        create(
            t,
            &name,
            json!({ "Image": "busybox", "Cmd": ["no-such-command"], "HostConfig": { "AutoRemove": true } }),
        );
        let mut wait = api.stream("POST", &format!("/containers/{name}/wait?condition=removed"), b"");
        let refused = api.post(&format!("/containers/{name}/start")).status(400);
        assert!(refused.message().contains("executable file not found"), "{}", refused.message());
        let end = wait.next_json().unwrap();
        assert!(end["StatusCode"].as_i64() > Some(0), "{end}");
        api.get(&format!("/containers/{name}/json")).status(404);
    });
}

#[test]
fn a_connection_is_used_again_after_every_kind_of_answer() {
    engine(|t| {
        let name = t.name("keep");
        create(t, &name, json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "StopTimeout": 0 }));
        // All on one connection, one after the other; the last one closes it.
        let requests = [
            ("POST", format!("/containers/{name}/start"), 204),
            ("POST", format!("/containers/{name}/start"), 304),
            ("GET", format!("/containers/{name}/logs?stdout=1"), 200),
            ("GET", "/no/such/route".into(), 404),
            ("GET", "/containers/json".into(), 200),
            ("HEAD", "/_ping".into(), 200),
            ("POST", format!("/containers/{name}/stop"), 204),
            ("DELETE", format!("/containers/{name}"), 204),
        ];
        let mut text = String::new();
        for (method, path, _) in &requests {
            text.push_str(&format!("{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\n\r\n"));
        }
        text.push_str("GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n");
        let connection = t.api().raw(text.as_bytes());
        let first = connection.status;
        let rest = String::from_utf8_lossy(&connection.rest()).into_owned();
        let mut statuses = vec![first];
        statuses.extend(rest.match_indices("HTTP/1.1 ").map(|(at, _)| rest[at + 9..at + 12].parse::<u16>().unwrap()));
        let mut expected: Vec<u16> = requests.iter().map(|(_, _, status)| *status).collect();
        expected.push(200);
        assert_eq!(statuses, expected, "{rest}");
        assert!(rest.ends_with("OK"), "{rest}");
    });
}

#[test]
fn an_attached_stream_ends_with_the_process_though_a_child_holds_it() {
    engine(|t| {
        let api = t.api();
        let name = t.name("held");
        create(
            t,
            &name,
            json!({ "Image": "busybox", "Cmd": ["sh", "-c", "sleep 1000 & echo out"], "AttachStdout": true }),
        );
        let stream = api.hijack(&format!("/containers/{name}/attach?stream=1&stdout=1&stderr=1"), &Value::Null);
        let start = Instant::now();
        api.post(&format!("/containers/{name}/start")).status(204);
        assert_eq!(demultiplex(&stream.rest()).0, "out\n");
        assert!(start.elapsed() < Duration::from_secs(20));
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}

#[test]
fn attach_and_exec_without_upgrade_are_200_and_raw() {
    engine(|t| {
        let api = t.api();
        let name = t.name("plain");
        create(t, &name, json!({ "Image": "busybox", "Cmd": ["sleep", "1000"] }));
        api.post(&format!("/containers/{name}/start")).status(204);
        let exec = json!({ "Cmd": ["echo", "hello"], "AttachStdout": true });
        let exec = api.post_json(&format!("/containers/{name}/exec"), &exec).status(201).json()["Id"].clone();
        let stream = api.stream("POST", &format!("/exec/{}/start", exec.as_str().unwrap()), b"{}");
        assert_eq!(stream.status, 200);
        assert_eq!(demultiplex(&stream.rest()).0, "hello\n");
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}

/// Python's clients throw away what comes together with the head of the answer; dockerd is only too slow for that.
#[test]
fn nothing_comes_together_with_the_head_of_a_hijacked_answer() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "dockerd does not wait for the head to be read");
        }
        let api = t.api();
        let name = t.name("late");
        create(t, &name, json!({ "Image": "busybox", "Cmd": ["sh", "-c", "echo out; sleep 1000"] }));
        api.post(&format!("/containers/{name}/start")).status(204);
        let exec = json!({ "Cmd": ["echo", "out"], "AttachStdout": true });
        let exec = api.post_json(&format!("/containers/{name}/exec"), &exec).status(201).json()["Id"].clone();
        let exec = format!("/exec/{}/start", exec.as_str().unwrap());
        let attach = format!("/containers/{name}/attach?logs=1&stdout=1&stream=1");
        for (path, body) in [(exec, "{}"), (attach, "")] {
            let mut client = UnixStream::connect(&t.engine.socket).unwrap();
            let length = body.len();
            let head = "Host: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json";
            write!(client, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
            // Long enough for whatever is to come.
            std::thread::sleep(Duration::from_millis(300));
            let mut buffer = vec![0; 8192];
            let first = client.read(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..first]).into_owned();
            assert!(text.starts_with("HTTP/1.1 101 UPGRADED") && text.ends_with("\r\n\r\n"), "{text:?}");
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut rest = Vec::new();
            while !rest.ends_with(b"out\n") {
                let length = client.read(&mut buffer).unwrap();
                assert!(length > 0, "the stream ended: {rest:?}");
                rest.extend_from_slice(&buffer[..length]);
            }
        }
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}

#[test]
fn a_terminals_stream_is_raw_and_says_so() {
    engine(|t| {
        let api = t.api();
        let name = t.name("tty");
        let body = json!({ "Image": "busybox", "Cmd": ["sh", "-c", "stty size; echo out"], "Tty": true, "AttachStdout": true });
        create(t, &name, body);
        let stream = api.hijack(&format!("/v1.44/containers/{name}/attach?stream=1&stdout=1"), &Value::Null);
        assert_eq!(stream.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
        api.post(&format!("/containers/{name}/start")).status(204);
        let text = String::from_utf8_lossy(&stream.rest()).into_owned();
        assert!(text.ends_with("out\r\n"), "{text:?}");
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}

#[test]
fn a_load_that_fails_still_reads_its_body_and_ends() {
    engine(|t| {
        let mut archive = Image::busybox().docker_archive(&["cut:latest"]);
        archive.truncate(archive.len() / 2);
        let headers = [("Content-Type", "application/x-tar")];
        let reply = t.api().request("POST", "/images/load", &headers, &archive);
        assert!(reply.status >= 400 || reply.text().contains("errorDetail"), "{} {}", reply.status, reply.text());
        t.api().get("/images/cut:latest/json").status(404);
        t.api().get("/_ping").status(200);
    });
}

#[test]
fn a_client_that_goes_away_disturbs_nobody() {
    engine(|t| {
        let api = t.api();
        let name = t.name("leave");
        create(t, &name, json!({ "Image": "busybox", "Cmd": ["sh", "-c", "while :; do echo x; sleep 0.01; done"] }));
        api.post(&format!("/containers/{name}/start")).status(204);
        for _ in 0..20 {
            drop(api.hijack(&format!("/containers/{name}/attach?stream=1&stdout=1"), &Value::Null));
            drop(api.stream("GET", &format!("/containers/{name}/logs?follow=1&stdout=1"), b""));
            drop(api.stream("POST", &format!("/containers/{name}/wait"), b""));
            drop(api.stream("GET", "/events", b""));
        }
        assert_eq!(t.inspect(&name)["State"]["Running"], true);
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}

/// A reader that does not read must not stop the container.
#[test]
fn a_reader_that_sleeps_does_not_block_the_writer() {
    engine(|t| {
        let api = t.api();
        let name = t.name("slow");
        create(t, &name, json!({ "Image": "busybox", "Cmd": ["sh", "-c", "seq 300000; echo done >&2"] }));
        let sleeping = api.stream("GET", "/events", b"");
        api.post(&format!("/containers/{name}/start")).status(204);
        let logs = api.stream("GET", &format!("/containers/{name}/logs?follow=1&stdout=1"), b"");
        let mut wait = api.stream("POST", &format!("/containers/{name}/wait"), b"");
        assert_eq!(wait.next_json().unwrap()["StatusCode"], 0);
        let (out, _) = demultiplex(&logs.rest());
        assert!(out.ends_with("300000\n"));
        drop(sleeping);
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}
