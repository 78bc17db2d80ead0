//! The client against scripted engines on socket pairs in a temporary directory.

use std::{
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    thread::JoinHandle,
};

use super::*;

/// Serves `answers` in order, each on whatever connection the next request comes; returns the heads seen.
fn engine(name: &str, answers: Vec<&'static str>) -> (Client, JoinHandle<Vec<String>>) {
    let path = std::env::temp_dir().join(format!("hoist-client-{name}-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let client = Client::new(Endpoint::Unix(path.clone()), "test");
    let server = std::thread::spawn(move || {
        let mut heads = Vec::new();
        let mut answers = answers.into_iter().peekable();
        while answers.peek().is_some() {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while answers.peek().is_some() {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap() == 0 {
                        break;
                    }
                }
                if head.is_empty() {
                    break;
                }
                heads.push(head);
                let answer = answers.next().unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
                if answer.contains("Connection: close") {
                    break;
                }
            }
        }
        let _ = std::fs::remove_file(&path);
        heads
    });
    (client, server)
}

#[test]
fn a_too_new_version_is_lowered_to_what_the_engine_names() {
    let (client, server) = engine(
        "version",
        vec![
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 96\r\n\r\n{\"message\":\"client version 1.53 is too new. Maximum supported API version is 1.51\"}             ",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        ],
    );
    assert_eq!(client.call(Request::get("/containers/json")).unwrap().bytes().unwrap(), b"[]");
    assert_eq!(client.version(), "1.51");
    drop(client);
    let heads = server.join().unwrap();
    assert!(heads[0].starts_with("GET /v1.53/containers/json HTTP/1.1\r\n"));
    assert!(heads[1].starts_with("GET /v1.51/containers/json HTTP/1.1\r\n"));
}

#[test]
fn chunked_bodies_are_joined_and_the_connection_is_used_again() {
    let (client, server) = engine(
        "chunked",
        vec![
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n6;x=y\r\n:1}{\"b\r\n4\r\n\":2}\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\nX-Hoist-Container: abc\r\n\r\n{\"message\":\"no such thing\"}",
        ],
    );
    let items: Vec<_> = client.call(Request::get("/x")).unwrap().json_stream().map(Result::unwrap).collect();
    assert_eq!(serde_json::to_string(&items).unwrap(), r#"[{"a":1},{"b":2}]"#);
    assert_eq!(client.call(Request::post("/y")).unwrap().status, 204);
    let error = client.call(Request::delete("/z")).unwrap_err();
    assert!(matches!(&error, Error::Api { status: 404, message, .. } if message == "no such thing"), "{error:?}");
    drop(client);
    assert_eq!(server.join().unwrap().len(), 3);
}

#[test]
fn a_cut_body_is_an_error_not_a_short_answer() {
    let (client, server) =
        engine("cut", vec!["HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n12345"]);
    assert!(client.call(Request::get("/x")).unwrap().bytes().is_err());
    server.join().unwrap();
}

#[test]
fn header_values_cannot_smuggle_lines() {
    let client = Client::new(Endpoint::Unix("/x".into()), "test");
    let head = client.head_of(&Request::get("/a").header("X-A", "b\r\nEvil: 1"), "/a", false);
    assert!(!head.contains("Evil"));
}
