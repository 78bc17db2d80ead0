//! Pulling from the real thing: Debian's docker-registry, found by HOIST_TEST_REGISTRY or on PATH, by plain HTTP, with a
//! password, and by TLS with a certificate that only SSL_CERT_FILE knows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{MEDIA_MANIFEST, Made, Pack, Place, digest, made};
use base64::Engine as _;
use hoist_api::reference::Reference;
use hoist_image::{Credentials, Error};

/// Set for the copy of this program that a test runs with another environment.
const INNER: &str = "HOIST_TEST_INNER_REGISTRY";
/// User `u`, password `p`, as htpasswd(1) writes it.
const PASSWORD_FILE: &str = "u:$2b$05$abcdefghijklmnopqrstuuqwWMzKt5N8p.u2GX5MuH1t19BMWuLOW\n";

struct Registry {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("HOIST_TEST_REGISTRY").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| std::env::split_paths(&path).map(|p| p.join("docker-registry")).find(|p| p.exists()));
    if found.is_none() {
        println!("skipped: no docker-registry on PATH nor named by HOIST_TEST_REGISTRY");
    }
    found
}

impl Registry {
    /// `more` is put below `http:` and after it.
    fn start(more: impl Fn(&Path) -> String) -> Option<Registry> {
        Registry::start_at(IpAddr::from([127, 0, 0, 1]), more)
    }

    fn start_at(address: IpAddr, more: impl Fn(&Path) -> String) -> Option<Registry> {
        let program = program()?;
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: \
             {0}/data}}\nhttp:\n  addr: {address}:{port}\n{1}",
            directory.path().display(),
            more(directory.path())
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(program).arg("serve").arg(&file).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let registry = Registry { child, port, directory };
        for _ in 0..200 {
            if TcpStream::connect((address, port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("registry does not answer: {}", std::fs::read_to_string(registry.directory.path().join("log")).unwrap());
    }

    fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    /// Lays an image into the registry through its API.
    fn push(&self, image: &Made, path: &str, tags: &[&str], login: &str) {
        for blob in image.layers.iter().chain([&image.config]) {
            let (status, location) = self.ask("POST", &format!("/v2/{path}/blobs/uploads/"), "", b"", login);
            assert_eq!(status, 202);
            let location =
                location.split_once("://").map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap()..]);
            let target = format!("{location}&digest={}", digest(blob));
            assert_eq!(self.ask("PUT", &target, "application/octet-stream", blob, login).0, 201);
        }
        for tag in tags {
            let target = format!("/v2/{path}/manifests/{tag}");
            assert_eq!(self.ask("PUT", &target, MEDIA_MANIFEST, &image.manifest, login).0, 201);
        }
    }

    /// Status and Location of the answer.
    fn ask(&self, method: &str, target: &str, media_type: &str, body: &[u8], login: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nAuthorization: Basic {login}\r\n\
             Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let location = rest.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_default();
        (status, location.to_owned())
    }

    fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

#[test]
fn tags_digests_and_all_tags_are_pulled() {
    let Some(registry) = Registry::start(|_| String::new()) else { return };
    let (one, two) = (made(&["base", "one"], Pack::Gzip), made(&["base", "two"], Pack::Zstd));
    registry.push(&one, "lib/x", &["1", "latest"], "");
    registry.push(&two, "lib/x", &["2"], "");
    let place = Place::new();
    place.pull(&registry.name("lib/x")).unwrap();
    assert_eq!(place.read(&registry.name("lib/x:latest"), "etc/1"), "one");
    place.pull(&registry.name(&format!("lib/x@{}", digest(&two.manifest)))).unwrap();
    assert!(place.statuses().iter().any(|status| status.ends_with("Already exists")));
    let pinned = place.store.get(&registry.name(&format!("lib/x@{}", digest(&two.manifest)))).unwrap();
    assert!(pinned.repo_tags.is_empty());
    let reference = Reference::parse(&registry.name("lib/x")).unwrap();
    place.block_on(place.store.pull(&reference, true, None, None, place.sink())).unwrap();
    assert_eq!(place.store.get(&registry.name("lib/x:2")).unwrap().id, pinned.id);
    let said = place.statuses();
    assert_eq!(said.last().unwrap(), &format!("Status: Downloaded newer image for {}", registry.name("lib/x")));
    let missing = place.pull(&registry.name("lib/x:3")).unwrap_err().to_string();
    let wanted = format!("manifest for {} not found: manifest unknown: manifest unknown", registry.name("lib/x:3"));
    assert_eq!(missing, wanted);
}

#[test]
fn a_blob_damaged_or_cut_on_the_registrys_disk_is_refused() {
    let Some(registry) = Registry::start(|_| String::new()) else { return };
    let image = made(&["x".repeat(50_000).as_str()], Pack::Gzip);
    registry.push(&image, "x", &["1"], "");
    let file = registry.blob_file(&digest(&image.layers[0]));
    let mut bytes = image.layers[0].clone();
    bytes[20_000] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let text = Place::new().refuse(&registry.name("x:1"));
    assert_eq!(text, format!("filesystem layer verification failed for digest {}", digest(&image.layers[0])));
    std::fs::write(&file, &image.layers[0][..20_000]).unwrap();
    let text = Place::new().refuse(&registry.name("x:1"));
    assert!(text.contains("unexpected EOF") || text.contains("416"), "{text}");
    std::fs::write(&file, &image.layers[0]).unwrap();
    Place::new().pull(&registry.name("x:1")).unwrap();
}

#[test]
fn a_registry_with_a_password_wants_it() {
    let Some(registry) = Registry::start(|directory| {
        let file = directory.join("htpasswd");
        std::fs::write(&file, PASSWORD_FILE).unwrap();
        format!("auth:\n  htpasswd: {{realm: r, path: {}}}\n", file.display())
    }) else {
        return;
    };
    registry.push(&made(&["one"], Pack::Gzip), "x", &["1"], "u:p");
    let place = Place::new();
    assert!(place.refuse(&registry.name("x:1")).ends_with("no basic auth credentials"));
    let login =
        |password: &str| Credentials { username: "u".into(), password: password.into(), ..Credentials::default() };
    let wrong = place.pull_as(&registry.name("x:1"), None, Some(&login("wrong"))).unwrap_err();
    assert!(matches!(wrong, Error::Unauthorized(_)), "{wrong}");
    place.pull_as(&registry.name("x:1"), None, Some(&login("p"))).unwrap();
}

#[test]
fn tls_is_verified_against_the_systems_certificates() {
    const NAME: &str = "real::tls_is_verified_against_the_systems_certificates";
    if let Ok(name) = std::env::var(INNER) {
        // The copy of this program: its SSL_CERT_FILE names the registry's certificate, or another.
        println!("inner: {}", Place::new().refuse(&name));
        return;
    }
    let Some(address) = own_address() else {
        println!("skipped: this machine has no address but loopback, whose registries are not verified");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (Some(good), Some(other)) =
        (certificate(&directory, "good", address), certificate(&directory, "other", address))
    else {
        println!("skipped: no openssl program to make a certificate");
        return;
    };
    let tls = format!("  tls: {{certificate: {}.crt, key: {}.key}}\n", good.display(), good.display());
    let Some(registry) = Registry::start_at(address, |_| tls.clone()) else { return };
    let told = |file: &Path| {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", NAME, "--nocapture"]).env(INNER, format!("{address}:{}/x:1", registry.port));
        let output = again.env("SSL_CERT_FILE", file.with_extension("crt")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = told(&good);
    assert!(text.contains("manifest unknown"), "{text}");
    let text = told(&other);
    let wanted = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(text.contains(wanted), "{text}");
}

/// This machine's address on its default route.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: connect(2) on a datagram socket only picks a route.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn certificate(directory: &tempfile::TempDir, name: &str, address: IpAddr) -> Option<PathBuf> {
    let file = directory.path().join(name);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=IP:{address}")])
        .arg("-keyout")
        .arg(file.with_extension("key"))
        .arg("-out")
        .arg(file.with_extension("crt"))
        .output();
    made.is_ok_and(|made| made.status.success()).then_some(file)
}
