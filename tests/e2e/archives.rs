//! Archives in every form that Docker takes: compressed by any of its programs, from a URL, for one platform.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use hoist_tests::{Entry, Image, both, skip};
use serde_json::json;

/// Serves one body under `/root.tar` on a loopback port for as long as the test runs.
fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            for line in lines.map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
            }
            let (status, body) = match first.split(' ').nth(1) {
                Some("/root.tar") => ("200 OK", body.clone()),
                Some("/moved") => ("302 Found\r\nLocation: /root.tar", Vec::new()),
                _ => ("404 Not Found", b"not here".to_vec()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("127.0.0.1:{}", address.port())
}

/// What a program of this machine makes of some bytes, if it is there.
fn through(program: &str, option: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program).arg(option).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.status.success().then_some(output.stdout)
}

fn own_image(seed: &str) -> Image {
    Image::busybox_with(&[Entry::file("seed", seed)], json!({ "Cmd": ["cat", "/seed"] }))
}

#[test]
fn import_reads_from_a_url_and_follows_it() {
    both(|t| {
        let name = format!("{}:v1", t.name("url"));
        let at = serve(own_image("x").layers[0].blob.clone());
        for url in [format!("http://{at}/root.tar"), format!("http://{at}/moved")] {
            t.args(&["import", "-c", "CMD [\"echo\", \"fetched\"]", &url, &name]).ok();
            t.cli(&format!("run --rm {name}")).ok().prints("fetched");
            let history = t.cli(&format!("history --no-trunc {name}")).ok();
            history.says(&format!("Imported from {url}"));
            t.cli(&format!("rmi {name}")).ok();
        }
        t.cli(&format!("import http://{at}/nothing")).fails_with(1).complains("with status 404").complains("not here");
        t.cli("import http://127.0.0.1:1/x").fails_with(1).complains("connection refused");
    });
}

#[test]
fn load_and_import_take_xz_and_bzip2() {
    both(|t| {
        for program in ["xz", "bzip2"] {
            let seed = t.name(program);
            let (image, name) = (own_image(&seed), format!("{seed}:v1"));
            let Some(archive) = through(program, "-c", &image.docker_archive(&[&name])) else {
                skip!(program, "the packer is not installed");
            };
            if !t.engine.is_own() && t.cli_with("load", &archive).stderr.contains("executable file not found") {
                skip!(program, "the peer runs a program that it does not have");
            }
            t.cli_with("load", &archive).ok().says(&format!("Loaded image: {name}"));
            t.cli(&format!("run --rm {name}")).ok().prints(&seed);
            t.cli(&format!("rmi {name}")).ok();
            let root = through(program, "-c", &through("gzip", "-dc", &image.layers[0].blob).unwrap()).unwrap();
            let imported = t.cli_with("import -", &root).ok();
            imported.matches("^sha256:[0-9a-f]{64}$");
        }
    });
}

#[test]
fn load_takes_the_platform_that_is_asked_for() {
    both(|t| {
        let seed = t.name("platform");
        let (image, name) = (own_image(&seed), format!("{seed}:v1"));
        let archive = image.docker_archive(&[&name]);
        t.cli_with("load --platform linux/amd64", &archive).ok().says(&format!("Loaded image: {name}"));
        t.cli(&format!("rmi {name}")).ok();
        t.cli_with("load --platform linux/s390x", &archive);
        t.cli(&format!("image inspect {name}")).fails_with(1);
        let wrong = t.cli_with("load --platform foo", &archive).fails_with(1);
        wrong.complains("invalid platform: \"foo\": unknown operating system or architecture");
        t.cli(&format!("create --platform a/b/c/d {name}"))
            .fails()
            .complains("error parsing specified platform: \"a/b/c/d\": cannot parse platform specifier");
    });
}
