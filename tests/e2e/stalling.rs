//! A registry that sends a part of the last layer and no more, until it is told to go on: for pulls that are interrupted at
//! a known place.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_tests::{Image, digest, eventually};

/// Serves one image under every name. What it was asked for of the last layer is counted.
pub struct Stalling {
    address: String,
    state: Arc<State>,
}

struct State {
    image: Image,
    stall_after: usize,
    goes_on: AtomicBool,
    stalled: AtomicUsize,
    /// The first byte that each request for the last layer wanted.
    starts: Mutex<Vec<usize>>,
    /// Requests for the other layers.
    others: AtomicUsize,
}

impl Stalling {
    pub fn serve(image: &Image, stall_after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            image: image.clone(),
            stall_after,
            goes_on: AtomicBool::new(false),
            stalled: AtomicUsize::new(0),
            starts: Mutex::default(),
            others: AtomicUsize::new(0),
        });
        let shared = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || state.talk(&stream));
            }
        });
        Self { address, state }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn wait_until_stalled(&self) {
        eventually("the registry stalls", || self.state.stalled.load(Ordering::SeqCst) > 0);
    }

    pub fn go_on(&self) {
        self.state.goes_on.store(true, Ordering::SeqCst);
    }

    pub fn starts(&self) -> Vec<usize> {
        self.state.starts.lock().unwrap().clone()
    }

    pub fn requests_for_other_layers(&self) -> usize {
        self.state.others.load(Ordering::SeqCst)
    }
}

impl State {
    fn talk(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut line, mut start) = (String::new(), 0);
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let mut header = String::new();
            while reader.read_line(&mut header).unwrap_or(0) > 2 {
                let lower = header.to_ascii_lowercase();
                if let Some(range) = lower.strip_prefix("range: bytes=") {
                    start = range.trim().trim_end_matches('-').parse().unwrap();
                }
                header.clear();
            }
            let mut words = line.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if self.answer(stream, (method, path), start).is_err() {
                return;
            }
        }
    }

    fn answer(&self, mut stream: &TcpStream, (method, path): (&str, &str), start: usize) -> std::io::Result<()> {
        let manifest = self.image.manifest();
        let mut bodies = vec![("application/vnd.docker.distribution.manifest.v2+json", manifest.clone())];
        bodies.push(("application/octet-stream", self.image.config_blob()));
        bodies.extend(self.image.layers.iter().map(|layer| ("application/octet-stream", layer.blob.clone())));
        let wanted = path.rsplit('/').next().unwrap_or_default();
        let found = bodies.iter().position(|(_, bytes)| digest(bytes) == wanted);
        let at = if path.contains("/manifests/") { found.or(Some(0)) } else { found };
        let Some(at) = at else {
            let (status, length) = if path == "/v2/" { ("200 OK", 2) } else { ("404 Not Found", 2) };
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{{}}");
            return stream.write_all(text.as_bytes());
        };
        let (media_type, bytes) = &bodies[at];
        let is_last = at + 1 == bodies.len();
        let partial = match start {
            0 => "HTTP/1.1 200 OK\r\n".to_string(),
            _ => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            ),
        };
        let head = format!(
            "{partial}Content-Type: {media_type}\r\nDocker-Content-Digest: {}\r\nContent-Length: {}\r\n\r\n",
            digest(bytes),
            bytes.len() - start
        );
        stream.write_all(head.as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        if !is_last {
            self.others.fetch_add(usize::from(at > 1), Ordering::SeqCst);
            return stream.write_all(&bytes[start..]);
        }
        self.starts.lock().unwrap().push(start);
        let until = self.stall_after.clamp(start, bytes.len());
        stream.write_all(&bytes[start..until])?;
        stream.flush()?;
        self.stalled.fetch_add(1, Ordering::SeqCst);
        while !self.goes_on.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.write_all(&bytes[until..])
    }
}
