//! A registry of our own: pushed to, pulled from, killed, searched, cleaned.

use std::io::Write;
use std::net::TcpStream;

use hoist_tests::{Bed, Entry, Image, Registry, Reply, both, digest, engine, eventually, skip};
use serde_json::{Value, json};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// bcrypt of `secret` and of `other`.
const SECRET: &str = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
const OTHER: &str = "$2b$04$abcdefghijklmnopqrstuu0HtfOlPbTiymk5tcV.3TsFPDd3SYZqu";

fn image(seed: &str) -> Image {
    let labels = json!({ "org.opencontainers.image.description": format!("An image of {seed}") });
    Image::busybox_with(&[Entry::file("seed", seed)], json!({ "Labels": labels }))
}

/// A small artifact about nothing or about another manifest.
fn artifact(registry: &Registry, repository: &str, kind: &str, subject: Option<&Value>) -> Vec<u8> {
    registry.push_blob(repository, b"{}");
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2 });
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "config": empty, "layers": [empty],
        "annotations": { "kind": kind },
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject.clone();
    }
    manifest.to_string().into_bytes()
}

fn put(registry: &Registry, path: &str, manifest: &[u8]) -> Reply {
    registry.api().request("PUT", path, &[("Content-Type", OCI_MANIFEST)], manifest)
}

fn code(reply: &Reply) -> String {
    reply.json()["errors"][0]["code"].as_str().unwrap_or_default().to_string()
}

fn remove(t: &Bed, name: &str) {
    t.cli(&format!("rmi -f {name}")).ok();
}

#[test]
fn an_image_pushed_to_our_own_registry_is_pulled_and_runs() {
    both(|t| {
        let registry = Registry::serve_own(&[]);
        let seed = t.name("own");
        let name = registry.name("team/own:v1");
        let pushed = registry.push("team/own", &["v1", "latest"], &image(&seed));
        t.cli(&format!("pull {name}")).ok().says("v1: Pulling from team/own").says(&format!("Digest: {pushed}"));
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints(&seed);
        remove(t, &name);
        t.cli(&format!("pull {}", registry.name("team/none:v1"))).fails();
        t.cli(&format!("pull {}", registry.name("team/own:none"))).fails();
    });
}

#[test]
fn what_a_client_pushes_is_found_and_pulled_with_the_same_digest() {
    both(|t| {
        let registry = Registry::serve_own(&[]);
        let (name, seed) = (registry.name("pushed/image:v1"), t.name("pushed"));
        t.load_once(&name, &image(&seed));
        let pushed = t.cli(&format!("push {name}")).ok();
        let digest = pushed.text().split("digest: ").nth(1).unwrap().split(' ').next().unwrap().to_string();
        t.cli(&format!("push {name}")).ok().says("Layer already exists").says(&digest);
        let other = registry.name("other/image:v2");
        t.cli(&format!("tag {name} {other}")).ok();
        t.cli(&format!("push {other}")).ok().says("Mounted from pushed/image").says(&digest);
        let found = t.cli(&format!("search {}", registry.name("image"))).ok();
        assert!(found.row("pushed/image").contains(&format!("An image of {seed}")), "{}", found.text());
        remove(t, &name);
        remove(t, &other);
        t.cli(&format!("pull {name}")).ok().says(&format!("Digest: {digest}"));
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints(&seed);
        remove(t, &name);
    });
}

/// The answer of the engine to a pull with these credentials.
fn pull_as(t: &Bed, name: &str, password: &str) -> String {
    let auth = json!({ "username": "ann", "password": password }).to_string();
    let header = base64_url(auth.as_bytes());
    let path = format!("/images/create?fromImage={name}&tag=v1");
    t.api().request("POST", &path, &[("X-Registry-Auth", &header)], b"").text()
}

fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let value = chunk.iter().chain([0, 0].iter()).take(3).fold(0_usize, |value, byte| value << 8 | *byte as usize);
        for place in 0..4 {
            let is_padding = place > chunk.len();
            text.push(if is_padding { '=' } else { ALPHABET[value >> (18 - 6 * place) & 63] as char });
        }
    }
    text
}

#[test]
fn users_of_the_htpasswd_file_come_in_and_nobody_else() {
    engine(|t| {
        let mut registry = Registry::serve_own(&[]);
        registry.push("private", &["v1"], &image(&t.name("users")));
        let file = registry.directory().join("htpasswd");
        std::fs::write(&file, format!("# who\nann:{SECRET}\n")).unwrap();
        registry.kill_and_restart(&["--htpasswd", file.to_str().unwrap()]);
        let refused = registry.api().get("/v2/").status(401);
        assert!(refused.header("WWW-Authenticate").unwrap().starts_with("Basic realm="), "{:?}", refused.headers);
        assert_eq!(code(&refused), "UNAUTHORIZED");
        for path in ["/v2/private/tags/list", "/v1/search?q=x", "/v2/../x"] {
            registry.api().get(path).status(401);
        }
        let name = registry.name("private");
        let refused = pull_as(t, &name, "wrong");
        assert!(refused.contains("user name or password is wrong"), "{refused}");
        assert!(pull_as(t, &name, "secret").contains("Downloaded newer image"), "the right password does not pull");
        // The file is read again when it changes.
        std::fs::write(&file, format!("ann:{OTHER}\n")).unwrap();
        eventually("the new password is known", || pull_as(t, &name, "other").contains("Image is up to date"));
        assert!(!pull_as(t, &name, "secret").contains("up to date"), "the old password still pulls");
        t.api().delete(&format!("/images/{name}:v1"));
    });
}

#[test]
fn a_registry_with_a_certificate_speaks_tls() {
    both(|t| {
        let mut registry = Registry::serve_own(&[]);
        let seed = t.name("tls");
        registry.push("safe", &["v1"], &image(&seed));
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
        let (certificate, key) = (registry.directory().join("cert.pem"), registry.directory().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let flags = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        registry.kill_and_restart(&flags);
        assert!(registry.api().try_request("GET", "/v2/", &[], b"").is_err(), "plain HTTP is answered");
        let name = registry.name("safe:v1");
        t.cli(&format!("run --rm {name} cat /seed")).ok().says(&seed);
        remove(t, &name);
    });
}

#[test]
fn parts_of_a_blob_are_served() {
    let registry = Registry::serve_own(&[]);
    let blob: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    registry.push_blob("parts", &blob);
    let path = format!("/v2/parts/blobs/{}", digest(&blob));
    let part = |range: &str| registry.api().request("GET", &path, &[("Range", range)], b"");
    let whole = registry.api().get(&path).status(200);
    assert!(whole.body == blob && whole.header("Docker-Content-Digest") == Some(&digest(&blob)));
    assert_eq!(registry.api().head(&path).status(200).header("Content-Length"), Some("300000"));
    let middle = part("bytes=131000-262143").status(206);
    assert!(middle.body == blob[131_000..262_144]);
    assert_eq!(middle.header("Content-Range"), Some("bytes 131000-262143/300000"));
    assert!(part("bytes=-5").status(206).body == blob[299_995..]);
    assert!(part("bytes=299999-").status(206).body == blob[299_999..]);
    assert_eq!(part("bytes=300000-").status(416).header("Content-Range"), Some("bytes */300000"));
}

/// Begins an upload; returns its path.
fn begin(registry: &Registry, repository: &str) -> String {
    let begun = registry.api().post(&format!("/v2/{repository}/blobs/uploads/")).status(202);
    begun.header("Location").unwrap().to_string()
}

#[test]
fn an_upload_goes_on_after_the_registry_was_killed() {
    let mut registry = Registry::serve_own(&[]);
    let blob: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 3) as u8).collect();
    let location = begin(&registry, "resumed");
    let patch = |registry: &Registry, range: &str, bytes: &[u8]| {
        registry.api().request("PATCH", &location, &[("Content-Range", range)], bytes)
    };
    let first = patch(&registry, "0-399999", &blob[..400_000]).status(202);
    assert_eq!(first.header("Range"), Some("0-399999"));
    // A request that breaks off leaves what came.
    let mut stream = TcpStream::connect(("127.0.0.1", registry.port)).unwrap();
    write!(stream, "PATCH {location} HTTP/1.1\r\nHost: r\r\nContent-Length: 600000\r\n\r\n").unwrap();
    stream.write_all(&blob[400_000..500_000]).unwrap();
    drop(stream);
    let status = |registry: &Registry| {
        let status = registry.api().get(&location).status(204);
        status.header("Range").unwrap().to_string()
    };
    eventually("what came of a broken request is there", || status(&registry) == "0-499999");
    registry.kill_and_restart(&[]);
    assert_eq!(status(&registry), "0-499999");
    let refused = patch(&registry, "400000-999999", &blob[400_000..]).status(416);
    assert_eq!((refused.header("Range"), refused.header("Location")), (Some("0-499999"), Some(location.as_str())));
    let lying = patch(&registry, "500000-600000", &blob[500_000..]).status(400);
    assert_eq!(code(&lying), "SIZE_INVALID");
    patch(&registry, "500000-999999", &blob[500_000..]).status(202);
    let bad = registry.api().request("PUT", &format!("{location}?digest=md5:00"), &[], b"").status(400);
    assert_eq!(code(&bad), "DIGEST_INVALID");
    registry.api().request("PUT", &format!("{location}?digest={}", digest(&blob)), &[], b"").status(201);
    assert!(registry.api().get(&format!("/v2/resumed/blobs/{}", digest(&blob))).status(200).body == blob);
    registry.api().get(&location).status(404);
    // What was acknowledged survives.
    registry.kill_and_restart(&[]);
    registry.api().head(&format!("/v2/resumed/blobs/{}", digest(&blob))).status(200);
    assert!(registry.terminate().success());
}

#[test]
fn uploads_are_whole_mounted_cancelled_or_refused() {
    let registry = Registry::serve_own(&[]);
    let api = registry.api();
    let (blob, of_blob) = (b"some bytes", digest(b"some bytes"));
    let at_once = api.request("POST", &format!("/v2/one/blobs/uploads/?digest={of_blob}"), &[], blob).status(201);
    assert_eq!(at_once.header("Location"), Some(format!("/v2/one/blobs/{of_blob}").as_str()));
    let wrong = api.request("POST", &format!("/v2/one/blobs/uploads/?digest={of_blob}"), &[], b"others").status(400);
    assert_eq!(code(&wrong), "DIGEST_INVALID");
    // From another repository, and where there is none, an ordinary upload.
    api.get(&format!("/v2/two/blobs/{of_blob}")).status(404);
    api.post(&format!("/v2/two/blobs/uploads/?mount={of_blob}&from=three")).status(202);
    api.post(&format!("/v2/two/blobs/uploads/?mount={of_blob}&from=one")).status(201);
    assert_eq!(api.get(&format!("/v2/two/blobs/{of_blob}")).status(200).body, blob);
    let location = begin(&registry, "one");
    api.request("PATCH", &location.replace("/one/", "/two/"), &[], blob).status(404);
    api.delete(&location).status(204);
    api.request("PATCH", &location, &[], blob).status(404);
}

#[test]
fn manifests_are_whole_and_keep_their_bytes_and_type() {
    let registry = Registry::serve_own(&[]);
    let manifest = artifact(&registry, "a", "text/x", None);
    let missing = put(&registry, "/v2/b/manifests/v1", &manifest).status(404);
    assert_eq!(code(&missing), "MANIFEST_BLOB_UNKNOWN");
    let of_manifest = digest(&manifest);
    let many = put(&registry, &format!("/v2/a/manifests/{of_manifest}?tag=x&tag=y"), &manifest).status(201);
    assert_eq!(many.header("OCI-Tag"), Some("x, y"));
    let got = registry.api().get("/v2/a/manifests/y").status(200);
    assert!(got.body == manifest && got.header("Content-Type") == Some(OCI_MANIFEST));
    assert_eq!(got.header("Docker-Content-Digest"), Some(of_manifest.as_str()));
    let head = registry.api().head("/v2/a/manifests/x").status(200);
    assert_eq!(head.header("Content-Length"), Some(manifest.len().to_string().as_str()));
    let other = put(&registry, &format!("/v2/a/manifests/{}", digest(b"other")), &manifest).status(400);
    assert_eq!(code(&other), "DIGEST_INVALID");
    let huge = vec![b' '; 5 << 20];
    put(&registry, "/v2/a/manifests/huge", &huge).status(413);
    registry.api().request("PUT", "/v2/a/manifests/x", &[("Content-Type", "text/html")], &manifest).status(400);
}

#[test]
fn what_is_deleted_is_given_back() {
    let mut registry = Registry::serve_own(&[]);
    let kept = registry.push("a", &["kept"], &image("kept"));
    let gone = image("gone");
    let of_gone = registry.push("a", &["gone", "same"], &gone);
    registry.kill_and_restart(&["--keep-unreferenced", "0s"]);
    let layer = &gone.layers.last().unwrap().blob;
    let files = [of_gone.as_str(), &digest(layer), &gone.id()]
        .map(|digest| registry.directory().join("data/blobs/sha256").join(digest.trim_start_matches("sha256:")));
    let api = registry.api().clone();
    let used = api.delete(&format!("/v2/a/blobs/{}", digest(layer))).status(405);
    assert_eq!(code(&used), "UNSUPPORTED");
    api.delete("/v2/a/manifests/gone").status(202);
    api.get("/v2/a/manifests/gone").status(404);
    api.get("/v2/a/manifests/same").status(200);
    api.delete(&format!("/v2/a/manifests/{of_gone}")).status(202);
    for reference in ["same", &of_gone] {
        let unknown = api.get(&format!("/v2/a/manifests/{reference}")).status(404);
        assert_eq!(code(&unknown), "MANIFEST_UNKNOWN");
    }
    eventually("the blobs of the deleted image are gone", || files.iter().all(|file| !file.exists()));
    api.get("/v2/a/manifests/kept").status(200);
    api.delete(&format!("/v2/a/manifests/{kept}")).status(202);
    eventually("the repository is gone with its last image", || api.get("/v2/a/tags/list").status == 404);
    registry.kill_and_restart(&["--no-delete"]);
    registry.push("a", &["x"], &image("x"));
    registry.api().delete("/v2/a/manifests/x").status(405);
    registry.kill_and_restart(&["--read-only"]);
    registry.api().get("/v2/a/manifests/x").status(200);
    registry.api().post("/v2/a/blobs/uploads/").status(405);
}

/// Follows the links from page to page.
fn pages(registry: &Registry, first: &str, list: &str) -> Vec<Vec<String>> {
    let mut path = Some(first.to_string());
    let mut pages = Vec::new();
    while let Some(here) = path {
        let page = registry.api().get(&here).status(200);
        let names = page.json()[list].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_string()).collect();
        pages.push(names);
        path = page.header("Link").map(|link| link[1..link.find('>').unwrap()].to_string());
    }
    pages
}

#[test]
fn lists_come_in_order_and_in_pages() {
    let registry = Registry::serve_own(&[]);
    for repository in ["c", "a/b", "a", "d"] {
        let manifest = artifact(&registry, repository, "text/x", None);
        for tag in ["v10", "v1", "V2", "_x"] {
            put(&registry, &format!("/v2/{repository}/manifests/{tag}"), &manifest).status(201);
        }
    }
    assert_eq!(pages(&registry, "/v2/_catalog", "repositories"), [["a", "a/b", "c", "d"]]);
    assert_eq!(pages(&registry, "/v2/_catalog?n=3", "repositories"), [vec!["a", "a/b", "c"], vec!["d"]]);
    assert_eq!(pages(&registry, "/v2/a/tags/list", "tags"), [["V2", "_x", "v1", "v10"]]);
    assert_eq!(pages(&registry, "/v2/a/tags/list?n=2", "tags"), [["V2", "_x"], ["v1", "v10"]]);
    assert_eq!(pages(&registry, "/v2/a/tags/list?n=5&last=_x", "tags"), [["v1", "v10"]]);
    assert_eq!(pages(&registry, "/v2/a/tags/list?n=0", "tags"), [[""; 0]]);
    registry.api().get("/v2/a/tags/list?n=x").status(400);
    assert_eq!(code(&registry.api().get("/v2/none/tags/list").status(404)), "NAME_UNKNOWN");
}

#[test]
fn referrers_of_an_image_are_listed_and_filtered() {
    let registry = Registry::serve_own(&[]);
    let subject = artifact(&registry, "a", "text/subject", None);
    let about = json!({ "mediaType": OCI_MANIFEST, "digest": digest(&subject), "size": subject.len() });
    // A referrer may come before what it is about.
    for kind in ["text/sbom", "text/signature"] {
        let referrer = artifact(&registry, "a", kind, Some(&about));
        let put = put(&registry, &format!("/v2/a/manifests/{}", digest(&referrer)), &referrer).status(201);
        assert_eq!(put.header("OCI-Subject"), Some(digest(&subject).as_str()));
    }
    put(&registry, "/v2/a/manifests/v1", &subject).status(201);
    let path = format!("/v2/a/referrers/{}", digest(&subject));
    let all = registry.api().get(&path).status(200);
    assert_eq!(all.header("Content-Type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let filtered = registry.api().get(&format!("{path}?artifactType=text/sbom")).status(200);
    assert_eq!(filtered.header("OCI-Filters-Applied"), Some("artifactType"));
    let index = filtered.json();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(index["manifests"][0]["artifactType"], "text/sbom");
    assert_eq!(index["manifests"][0]["annotations"]["kind"], "text/sbom");
    let none = registry.api().get(&format!("/v2/none/referrers/{}", digest(b"none"))).status(200);
    assert_eq!(none.json()["manifests"], json!([]));
    registry.api().get("/v2/a/referrers/sha256:x").status(400);
}

#[test]
fn searching_answers_as_the_hub_does() {
    let registry = Registry::serve_own(&[]);
    for name in ["tools/web", "web", "other"] {
        registry.push(name, &["v1"], &image(name));
    }
    let ping = registry.api().get("/v1/_ping").status(200);
    assert_eq!(ping.header("X-Docker-Registry-Standalone"), Some("true"));
    let found = registry.api().get("/v1/search?q=web&n=1&page=2").status(200).json();
    assert_eq!((&found["num_results"], &found["num_pages"], &found["page"]), (&json!(2), &json!(2), &json!(2)));
    assert_eq!(found["results"][0]["name"], "tools/web");
    assert_eq!(found["results"][0]["description"], "An image of tools/web");
    assert_eq!(found["results"][0]["star_count"], 0);
    registry.api().get("/").status(200);
}

#[test]
fn bad_requests_to_a_registry_are_refused_by_the_spec() {
    let registry = Registry::serve_own(&[]);
    let api = registry.api();
    for (path, status, expected) in [
        ("/v2/Upper/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/%2e%2e/%2e%2e/etc/passwd/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/blobs/sha256:zz", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/..%2f..%2fregistry.db", 404, "UNSUPPORTED"),
        ("/v2/a/manifests/-x", 400, "MANIFEST_INVALID"),
        ("/nowhere", 404, "UNSUPPORTED"),
    ] {
        let refused = api.get(path).status(status);
        assert_eq!(code(&refused), expected, "{path}");
        assert_eq!(refused.header("Docker-Distribution-Api-Version"), Some("registry/2.0"));
    }
    api.post("/v2/").status(405);
    let many: Vec<(String, String)> = (0..200).map(|n| (format!("X-{n}"), "x".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    api.request("GET", "/v2/", &many, b"").status(431);
    api.get("/v2/").status(200);
}

#[test]
fn what_the_signature_policy_refuses_is_neither_pulled_nor_run() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "wants an engine with a policy");
        }
        let registry = Registry::serve_own(&[]);
        registry.push("good", &["v1"], &image(&t.name("good")));
        registry.push("bad", &["v1"], &image(&t.name("bad")));
        let policy = registry.directory().join("policy.json");
        let rules = json!({ "default": [{ "type": "reject" }], "transports": { "docker": {
            registry.name("good"): [{ "type": "insecureAcceptAnything" }] },
            // The suite's own image comes as an archive.
            "docker-archive": { "": [{ "type": "insecureAcceptAnything" }] } } });
        std::fs::write(&policy, rules.to_string()).unwrap();
        let guarded = Bed::new(t.cli, &[format!("--signature-policy={}", policy.display())]);
        let (good, bad) = (registry.name("good:v1"), registry.name("bad:v1"));
        guarded.cli(&format!("run --rm {good} true")).ok();
        for command in
            [format!("pull {bad}"), format!("pull --disable-content-trust {bad}"), format!("run --rm {bad} true")]
        {
            let refused = guarded.cli(&command).fails();
            refused.complains(&format!("image {bad} is refused by the signature policy"));
        }
        guarded.cli("images -q 127.0.0.1:*/bad").ok().prints("");
        remove(&guarded, &good);
    });
}
