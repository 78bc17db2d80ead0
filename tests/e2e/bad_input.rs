//! Wrong requests: a clear error with Docker's status and text, an engine that lives, nothing left behind.

use hoist_tests::{Bed, Cli, Engine, Entry, Image, Layer, Registry, both, engine, skip};
use serde_json::{Value, json};

/// The error of a create request with this body.
fn refused(t: &Bed, body: &Value) -> (u16, String) {
    let reply = t.api().post_json("/containers/create", body);
    (reply.status, reply.message())
}

#[test]
fn broken_bodies_are_400_with_dockers_text() {
    engine(|t| {
        let api = t.api();
        let json = [("Content-Type", "application/json")];
        let broken = api.request("POST", "/containers/create", &json, b"{\"Image\":").status(400);
        assert!(broken.message().starts_with("invalid JSON"), "{}", broken.message());
        let nothing = api.request("POST", "/containers/create", &json, b"").status(400);
        assert_eq!(nothing.message(), "invalid JSON: got EOF while reading request body");
        let wrong = api.request("POST", "/containers/create", &json, b"{\"Image\": 7}").status(400);
        assert!(wrong.message().contains("invalid JSON"), "{}", wrong.message());
        let (status, message) = refused(t, &json!({}));
        assert_eq!((status, message.as_str()), (400, "config cannot be empty in order to create a container"));
        let plain = api.request("POST", "/containers/create", &[("Content-Type", "text/plain")], b"{}").status(400);
        assert!(plain.message().contains("must be 'application/json'"), "{}", plain.message());
        let twice =
            api.request("POST", "/containers/create", &json, b"{\"Image\":\"busybox\"} {\"Image\":\"x\"}").status(400);
        assert!(!twice.message().is_empty());
        api.get("/_ping").status(200);
    });
}

#[test]
fn filters_may_come_as_they_were_typed() {
    both(|t| {
        let name = t.name("typed");
        t.cli(&format!("create --name {name} busybox")).ok();
        let found =
            t.api().get(&format!("/containers/json?all=1&filters={{\"name\":[\"{name}\"]}}")).status(200).json();
        assert_eq!(found[0]["Names"], json!([format!("/{name}")]));
        let bad = t.api().get("/containers/json?filters={\"nonsense\":[\"x\"]}").status(400);
        assert_eq!(bad.message(), "invalid filter 'nonsense'");
    });
}

#[test]
fn unknown_fields_are_ignored() {
    engine(|t| {
        let name = t.name("fields");
        let body = json!({ "Image": "busybox", "NoSuchField": { "a": [1] }, "HostConfig": { "NorThis": 1 } });
        t.api().post_json(&format!("/containers/create?name={name}"), &body).status(201);
        t.api().delete(&format!("/containers/{name}")).status(204);
    });
}

#[test]
fn unknown_things_are_404_with_their_name() {
    engine(|t| {
        let api = t.api();
        let container = "No such container: nothing-here";
        for (method, path) in [
            ("GET", "json"),
            ("POST", "start"),
            ("POST", "stop"),
            ("POST", "kill"),
            ("POST", "restart"),
            ("POST", "pause"),
            ("POST", "wait"),
            ("GET", "logs?stdout=1"),
            ("GET", "top"),
            ("GET", "changes"),
            ("POST", "attach?stream=1"),
            ("POST", "rename?name=x"),
        ] {
            let reply = api.request(method, &format!("/containers/nothing-here/{path}"), &[], b"");
            // Of kill it says first what could not be done.
            // dockerd answers attach in plain text.
            let message = if path.starts_with("attach") { reply.text().trim().to_string() } else { reply.message() };
            assert_eq!((reply.status, message.contains(container)), (404, true), "{method} {path}: {message}");
            assert!(message == container || path == "kill" || path.starts_with("attach"), "{method} {path}: {message}");
        }
        let (status, message) = refused(t, &json!({ "Image": "no-such-image:v1" }));
        assert_eq!((status, message.as_str()), (404, "No such image: no-such-image:v1"));
        assert_eq!(api.get("/images/nothing-here/json").status(404).message(), "No such image: nothing-here:latest");
        assert_eq!(api.get("/exec/nothing/json").status(404).message(), "No such exec instance: nothing");
        assert_eq!(api.delete("/images/nothing-here").status(404).message(), "No such image: nothing-here:latest");
    });
}

#[test]
fn huge_and_endless_requests_are_refused_with_little_memory() {
    engine(|t| {
        let api = t.api();
        let before = t.engine.peak_kb();
        let long = "x".repeat(2_000_000);
        let reply = api.try_request("GET", &format!("/containers/{long}/json"), &[], b"");
        assert!(reply.map_or(true, |reply| reply.status >= 400));
        let headers: Vec<(String, String)> =
            (0..20_000).map(|number| (format!("X-{number}"), "y".repeat(100))).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = api.try_request("GET", "/_ping", &headers, b"");
        assert!(reply.map_or(true, |reply| reply.status >= 400));
        let body = format!("{{\"Image\":\"busybox\",\"Env\":[\"A={}\"]}}", "z".repeat(100_000_000));
        let reply =
            api.try_request("POST", "/containers/create", &[("Content-Type", "application/json")], body.as_bytes());
        if let Ok(reply) = reply {
            if reply.status == 201 {
                let id = reply.json()["Id"].as_str().unwrap().to_string();
                api.delete(&format!("/containers/{id}")).status(204);
            }
            // dockerd takes it.
            assert!(!t.engine.is_own() || reply.status >= 400, "{}", reply.status);
        }
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let body = format!("{{\"Image\":\"busybox\",\"Labels\":{deep}}}");
        let json = [("Content-Type", "application/json")];
        let reply = api.try_request("POST", "/containers/create", &json, body.as_bytes());
        assert!(reply.map_or(true, |reply| reply.status >= 400));
        api.get("/_ping").status(200);
        if let (Some(before), Some(after)) = (before, t.engine.peak_kb()) {
            assert!(after < before + 64_000, "{before} kB before, {after} kB after");
        }
    });
}

#[test]
fn wrong_settings_of_a_container_are_refused() {
    engine(|t| {
        for host in [
            json!({ "Binds": ["relative:also/relative"] }),
            json!({ "Memory": 1000 }),
            json!({ "RestartPolicy": { "Name": "nonsense" } }),
            json!({ "AutoRemove": true, "RestartPolicy": { "Name": "always" } }),
            json!({ "LogConfig": { "Type": "nonsense" } }),
            json!({ "Mounts": [{ "Type": "nonsense", "Target": "/x" }] }),
            json!({ "Mounts": [{ "Type": "bind", "Source": "/no/such/source", "Target": "/x" }] }),
            json!({ "CapAdd": ["NONSENSE"] }),
            json!({ "IpcMode": "nonsense" }),
            json!({ "PidMode": "nonsense" }),
        ] {
            let name = t.name("wrong");
            let body = json!({ "Image": "busybox", "HostConfig": host });
            let reply = t.api().post_json(&format!("/containers/create?name={name}"), &body);
            assert!((400..=500).contains(&reply.status) && !reply.message().is_empty(), "{host}: {}", reply.text());
            t.api().get(&format!("/containers/{name}/json")).status(404);
        }
    });
}

#[test]
fn a_layer_that_is_not_what_it_claims_is_refused_and_leaves_no_image() {
    both(|t| {
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let name = registry.name("lies:v1");
        // The manifest names the right blob, the configuration another content.
        let mut image = Image::busybox_with(&[Entry::file("x", "x")], json!({}));
        image.layers[1].diff_id = format!("sha256:{}", "0".repeat(64));
        registry.push("lies", &["v1"], &image);
        let pulled = t.cli(&format!("pull {name}")).fails_with(1);
        assert!(!pulled.stderr.is_empty());
        t.cli(&format!("image inspect {name}")).fails_with(1);
        // The blob is cut: its digest is right, its end is missing.
        let mut image = Image::busybox_with(&[Entry::file("y", "y".repeat(100_000))], json!({}));
        let length = image.layers[1].blob.len();
        image.layers[1].blob.truncate(length / 2);
        registry.push("lies", &["v1"], &image);
        t.cli(&format!("pull {name}")).fails_with(1);
        t.cli(&format!("image inspect {name}")).fails_with(1);
        t.cli("run --rm busybox true").ok();
    });
}

#[test]
fn a_manifest_that_is_two_things_at_once_is_refused() {
    both(|t| {
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        for (tag, manifest) in [
            ("none", json!({ "schemaVersion": 2, "mediaType": media_type })),
            ("text", json!("no manifest")),
            ("list", json!([1, 2, 3])),
        ] {
            let body = manifest.to_string();
            let path = format!("/v2/odd/manifests/{tag}");
            // The registry refuses some of them itself, which is as good.
            let pushed = registry.api().request("PUT", &path, &[("Content-Type", media_type)], body.as_bytes());
            if pushed.status == 201 {
                t.cli(&format!("pull {}", registry.name(&format!("odd:{tag}")))).fails_with(1);
            }
        }
    });
}

#[test]
fn an_entrypoint_that_is_missing_or_no_program_is_named() {
    both(|t| {
        let name = format!("{}:v1", t.name("entry"));
        let entries = [
            Entry::file("text", "just text\n").mode(0o755),
            Entry::script("bad-interpreter", "#!/no/such/interpreter\n"),
            Entry::file("empty", "").mode(0o755),
        ];
        t.load(&name, &Image::busybox_with(&entries, json!({ "Entrypoint": ["/no/such/entrypoint"] })));
        t.cli(&format!("run --rm {name}")).fails_with(127).complains("/no/such/entrypoint");
        t.cli(&format!("run --rm --entrypoint /bad-interpreter {name}")).fails().complains("no such file or directory");
        t.cli(&format!("run --rm --entrypoint /text {name}")).fails().complains("exec format error");
        t.cli(&format!("run --rm --entrypoint /empty {name}")).fails();
        t.cli(&format!("rmi {name}")).ok();
    });
}

#[test]
fn an_image_without_command_is_refused() {
    both(|t| {
        let name = format!("{}:v1", t.name("nothing"));
        t.load(&name, &Image::new(vec![Layer::new(&[Entry::directory("etc/")])], json!({})));
        t.cli(&format!("run --rm {name}")).fails_with(125).complains("no command specified");
        t.cli(&format!("rmi {name}")).ok();
    });
}

#[test]
fn a_full_disk_is_an_error_inside_and_outside_and_the_engine_lives() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "fills the disk of the engine");
        }
        let small = Engine::start_on_small_disk(24);
        let t = Bed::bare(Cli::Docker, small);
        t.load("busybox:latest", &Image::busybox());
        let fill = "dd if=/dev/zero of=/x bs=64k count=1000";
        t.args(&["run", "--name", "full", "busybox", "sh", "-c", fill]).fails().complains("No space left on device");
        // What comes now finds no room: each is an error, or works, and none hangs or ends the engine.
        t.args(&["run", "-d", "--name", "talks", "busybox", "sh", "-c", "seq 300000; exit 3"]);
        let big = Image::busybox_with(&[Entry::file("big", random_bytes(4_000_000))], json!({}));
        let headers = [("Content-Type", "application/x-tar")];
        let loaded = t.api().request("POST", "/images/load?quiet=1", &headers, &big.docker_archive(&["big:latest"]));
        assert!(loaded.status >= 400 || loaded.text().contains("errorDetail"), "{} {}", loaded.status, loaded.text());
        t.api().get("/images/big:latest/json").status(404);
        t.api().get("/_ping").status(200);
        // Removing makes room again.
        t.cli("rm -f full").ok();
        t.cli("rm -f talks");
        t.cli("run --rm busybox echo room").ok().prints("room");
        t.load("big:latest", &big);
    });
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    rand::Rng::fill(&mut rand::rng(), bytes.as_mut_slice());
    bytes
}
