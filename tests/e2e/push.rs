//! Push: what gets to a registry, what comes back, and what is not sent twice.

use base64::Engine as _;
use hoist_tests::{Bed, Entry, Image, Registry, both, engine, skip};
use serde_json::json;

/// The registry, or the end of the test.
macro_rules! registry {
    ($start:expr) => {
        match $start {
            Some(registry) => registry,
            None => skip!("registry", "no docker-registry in the test bed"),
        }
    };
}

fn own_image(seed: &str) -> Image {
    Image::busybox_with(&[Entry::file("seed", seed)], json!({ "Labels": { "seed": seed } }))
}

fn remove(t: &Bed, names: &str) {
    t.cli(&format!("rmi -f {names}")).ok();
}

/// What a push said at its end: `v1: digest: sha256:… size: 123`.
fn digest_of(said: &str) -> String {
    let line = said.lines().find(|line| line.contains(": digest: sha256:")).expect("the line with the digest");
    line.split_whitespace().nth(2).unwrap().to_string()
}

#[test]
fn a_pushed_image_comes_back_with_the_same_digest_and_a_second_push_sends_nothing() {
    both(|t| {
        let registry = registry!(Registry::start());
        let seed = t.name("push");
        let name = registry.name("some/image:v1");
        t.load(&name, &own_image(&seed));
        let heading = format!("The push refers to repository [{}]", registry.name("some/image"));
        let pushed = t.cli(&format!("push {name}")).ok().says(&heading);
        let digest = digest_of(&pushed.stdout);
        assert_eq!(pushed.stdout.matches(": Pushed").count(), 2, "{pushed}");
        let pinned = format!("{}@{digest}", registry.name("some/image"));
        t.args(&["image", "inspect", "--format", "{{.RepoDigests}}", &name]).ok().says(&pinned);
        // Its digest there is no row of another repository's.
        t.cli(&format!("tag {name} {seed}:v1")).ok();
        let rows = t.cli(&format!("images {seed}")).ok();
        assert_eq!(rows.lines().len(), 2, "{rows}");
        t.cli(&format!("rmi {seed}:v1")).ok();
        let again = t.cli(&format!("push {name}")).ok().says_not("Pushed");
        assert_eq!(again.stdout.matches(": Layer already exists").count(), 2, "{again}");
        assert_eq!(digest_of(&again.stdout), digest);
        remove(t, &format!("{name} {pinned}"));
        t.cli(&format!("pull {name}")).ok().says(&format!("Digest: {digest}"));
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints(&seed);
        t.cli(&format!("push -q {name}")).ok().prints(&name);
        remove(t, &name);
    });
}

#[test]
fn layers_of_another_repository_are_mounted_not_sent() {
    both(|t| {
        let registry = registry!(Registry::start());
        let seed = t.name("mount");
        let (one, two) = (registry.name("one:v1"), registry.name("deep/two:v2"));
        t.load(&one, &own_image(&seed));
        let first = t.cli(&format!("push {one}")).ok();
        t.cli(&format!("tag {one} {two}")).ok();
        let second = t.cli(&format!("push {two}")).ok().says_not("Pushed");
        assert_eq!(second.stdout.matches(": Mounted from one").count(), 2, "{second}");
        assert_eq!(digest_of(&first.stdout), digest_of(&second.stdout));
        remove(t, &format!("{one} {two}"));
    });
}

#[test]
fn a_pulled_image_goes_elsewhere_as_it_was() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "dockerd writes a manifest of its own");
        }
        let (from, to) = (registry!(Registry::start()), registry!(Registry::start()));
        let seed = t.name("elsewhere");
        let digest = from.push("x", &["v1"], &own_image(&seed));
        let (there, here) = (from.name("x:v1"), to.name("y:v1"));
        t.cli(&format!("pull {there}")).ok();
        t.cli(&format!("tag {there} {here}")).ok();
        let pushed = t.cli(&format!("push {here}")).ok();
        assert_eq!(digest_of(&pushed.stdout), digest);
        remove(t, &format!("{there} {here}"));
        t.cli(&format!("pull {here}")).ok().says(&format!("Digest: {digest}"));
        remove(t, &here);
    });
}

#[test]
fn push_a_sends_every_tag_and_wrong_names_are_refused() {
    both(|t| {
        let registry = registry!(Registry::start());
        let seed = t.name("all");
        let name = registry.name("all");
        for tag in ["v1", "v2"] {
            t.load(&format!("{name}:{tag}"), &own_image(&format!("{seed}-{tag}")));
        }
        let pushed = t.cli(&format!("push -a {name}")).ok().says("v1: digest: ").says("v2: digest: ");
        assert_eq!(pushed.stdout.matches("The push refers to repository").count(), 1);
        t.cli(&format!("push -a {name}:v1")).fails_with(1).complains("tag can't be used with --all-tags/-a");
        let latest = t.cli(&format!("push {name}")).fails_with(1).says("Using default tag: latest");
        latest.complains(&format!("tag does not exist: {name}:latest"));
        let nobody = registry.name("nobody");
        t.cli(&format!("push {nobody}:v1"))
            .fails_with(1)
            .complains(&format!("An image does not exist locally with the tag: {nobody}"));
        let id = own_image(&format!("{seed}-v1")).id();
        t.cli(&format!("push {name}@{id}")).fails_with(1).complains("cannot push a digest reference");
        t.cli(&format!("push {id}")).fails_with(1).complains("An image does not exist locally with the tag: sha256");
        t.cli(&format!("push {}", &id[7..])).fails_with(1).complains("cannot specify 64-byte hexadecimal strings");
        t.cli(&format!("push --platform linux/s390x {name}:v1"))
            .fails_with(1)
            .complains("does not match the specified platform (linux/s390x)");
        t.cli(&format!("tag {name}:v1 127.0.0.1:1/x:v1")).ok();
        t.cli("push 127.0.0.1:1/x:v1").fails_with(1).complains("connection refused");
        remove(t, &format!("{name}:v1 {name}:v2 127.0.0.1:1/x:v1"));
    });
}

#[test]
fn a_push_survives_the_death_of_its_registry() {
    engine(|t| {
        let mut registry = registry!(Registry::start());
        let seed = t.name("killed");
        let name = registry.name("killed:v1");
        let mut noise = vec![0; 48 << 20];
        rand::Rng::fill(&mut rand::rng(), noise.as_mut_slice());
        t.load(&name, &Image::busybox_with(&[Entry::file("noise", noise)], json!({ "Labels": { "seed": seed } })));
        let path = format!("/images/{}/push?tag=v1", registry.name("killed"));
        let mut lines = t.api().stream("POST", &path, b"");
        let mut said = Vec::new();
        while let Some(line) = lines.next_json() {
            let is_on_its_way = line["progressDetail"]["current"].as_u64() > Some(8 << 20);
            said.push(line);
            if is_on_its_way {
                break;
            }
        }
        registry.kill();
        registry.start_again();
        while let Some(line) = lines.next_json() {
            said.push(line);
        }
        let last = said.last().unwrap();
        assert_eq!(last["aux"]["Tag"], "v1", "{said:?}");
        assert!(said.iter().any(|line| line["status"].as_str().is_some_and(|text| text.starts_with("Retrying in"))));
        t.api().delete(&format!("/images/{name}?force=1")).status(200);
        t.api().post(&format!("/images/create?fromImage={}&tag=v1", registry.name("killed"))).status(200);
        let pulled = t.api().get(&format!("/images/{name}/json")).status(200).json();
        assert_eq!(pulled["Config"]["Labels"]["seed"], seed);
        t.api().delete(&format!("/images/{name}?force=1")).status(200);
    });
}

/// `X-Registry-Auth` of a user.
fn header(password: &str) -> String {
    base64::engine::general_purpose::URL_SAFE.encode(json!({ "username": "u", "password": password }).to_string())
}

#[test]
fn a_registry_with_a_password_takes_a_push_with_the_right_one() {
    engine(|t| {
        let registry = registry!(Registry::with_password());
        let seed = t.name("private");
        let name = registry.name("private:v1");
        t.load(&name, &own_image(&seed));
        let path = format!("/images/{}/push?tag=v1", registry.name("private"));
        let push = |headers: &[(&str, &str)]| {
            let lines = t.api().request("POST", &path, headers, b"").status(200).json_lines();
            lines.last().unwrap().clone()
        };
        assert!(push(&[]).to_string().contains("no basic auth credentials"));
        let wrong = header("wrong");
        assert!(push(&[("X-Registry-Auth", &wrong)])["error"].is_string());
        let right = header("p");
        let digest = push(&[("X-Registry-Auth", &right)])["aux"]["Digest"].as_str().unwrap().to_string();
        let path = format!("/distribution/{name}/json");
        let told = t.api().request("GET", &path, &[("X-Registry-Auth", &right)], b"").status(200).json();
        assert_eq!((&told["Descriptor"]["digest"], &told["Platforms"][0]["os"]), (&json!(digest), &json!("linux")));
        assert!(t.api().get(&path).status(500).message().contains("no basic auth credentials"));
        let missing = format!("/distribution/{}/json", registry.name("private:v2"));
        t.api().request("GET", &missing, &[("X-Registry-Auth", &right)], b"").status(404);
        t.api().delete(&format!("/images/{name}?force=1")).status(200);
    });
}

#[test]
fn a_login_is_checked_at_its_registry() {
    engine(|t| {
        let registry = registry!(Registry::with_password());
        let address = format!("127.0.0.1:{}", registry.port);
        let login = |password: &str, server: &str| {
            let body = json!({ "username": "u", "password": password, "serveraddress": server });
            t.api().post_json("/auth", &body)
        };
        let told = login("p", &address).status(200).json();
        assert_eq!(told, json!({ "IdentityToken": "", "Status": "Login Succeeded" }));
        let wrong = login("wrong", &address).status(500).message();
        assert_eq!(wrong, format!("login attempt to http://{address}/v2/ failed with status: 401 Unauthorized"));
        assert!(login("p", "127.0.0.1:1").status(500).message().ends_with("connect: connection refused"));
        let empty = t.api().post_json("/auth", &json!({ "serveraddress": address })).status(500).message();
        assert_eq!(empty, format!("Get \"http://{address}/v2/\": no basic auth credentials"));
    });
}

#[test]
fn the_progress_of_a_push_is_dockers() {
    engine(|t| {
        let registry = registry!(Registry::start());
        let seed = t.name("progress");
        let name = registry.name("progress:v1");
        t.load(&name, &own_image(&seed));
        let reply = t.api().post(&format!("/images/{}/push?tag=v1", registry.name("progress"))).status(200);
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        let lines = reply.json_lines();
        assert_eq!(
            lines[0],
            json!({ "status": format!("The push refers to repository [{}]", registry.name("progress")) })
        );
        let of_layers: Vec<_> = lines.iter().filter(|line| line["id"].is_string()).collect();
        assert!(of_layers.iter().all(|line| line["id"].as_str().unwrap().len() == 12));
        for status in ["Preparing", "Pushed"] {
            assert_eq!(of_layers.iter().filter(|line| line["status"] == status).count(), 2, "{status}: {lines:?}");
        }
        let aux = &lines.last().unwrap()["aux"];
        let (digest, size) = (aux["Digest"].as_str().unwrap(), aux["Size"].as_u64().unwrap());
        assert_eq!(lines[lines.len() - 2], json!({ "status": format!("v1: digest: {digest} size: {size}") }));
        t.api().delete(&format!("/images/{name}?force=1")).status(200);
    });
}
