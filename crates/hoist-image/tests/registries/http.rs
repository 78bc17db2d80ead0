//! As much of an HTTP server as the tests' registries need.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A request the server got.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

/// Serves connections on a loopback port until the test ends, each in a thread; `serve` also gets the address, which is
/// returned.
pub(crate) fn listen(serve: impl Fn(&TcpStream, &str) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (own, serve) = (address.clone(), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Heads and bodies go out apart.
            stream.set_nodelay(true).unwrap();
            let (own, serve) = (own.clone(), serve.clone());
            std::thread::spawn(move || serve(&stream, &own));
        }
    });
    address
}

/// The next request without its body; none when the client is gone.
pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Asked { method, path, headers })
}

/// A body of the length that its head tells.
pub(crate) fn read_body(reader: &mut impl BufRead, asked: &Asked) -> Option<Vec<u8>> {
    let length = asked.headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).ok()?;
    Some(body)
}

/// The head of an answer with a body of so many bytes, unless the headers say otherwise.
pub(crate) fn head<N: AsRef<str>>(status: u16, headers: &[(N, String)], body_bytes: usize) -> String {
    let mut head = format!("HTTP/1.1 {status} Status\r\n");
    if !headers.iter().any(|(name, _)| name.as_ref() == "Content-Length") {
        head.push_str(&format!("Content-Length: {body_bytes}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{}: {value}\r\n", name.as_ref()));
    }
    head.push_str("\r\n");
    head
}
