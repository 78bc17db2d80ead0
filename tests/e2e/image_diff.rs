//! Differences of images, and images as trees of their platforms.

use hoist_tests::{Cli, Entry, Image, Layer, Registry, both, digest, engine, hoist, skip};
use serde_json::json;

fn layered() -> Image {
    let mut image =
        Image::busybox_with(&[Entry::directory("a"), Entry::file("a/x", "1"), Entry::file("a/y", "2")], json!({}));
    let top =
        [Entry::file("a/x", "other"), Entry::file("a/.wh.y", ""), Entry::directory("new"), Entry::file("new/z", "3")];
    image.layers.push(Layer::new(&top));
    image
}

#[test]
fn the_uppermost_layer_or_another_image_is_compared() {
    hoist(|t| {
        if !t.engine.is_own() {
            t.cli("image diff busybox").fails_with(1).complains("the engine at the other end is another one");
            t.cli("diff busybox").fails_with(1).complains("No such container: busybox");
            return;
        }
        t.load("layered:v1", &layered());
        let top = "C /a\nC /a/x\nD /a/y\nA /new\nA /new/z";
        t.cli("image diff layered:v1").ok().prints(top);
        t.cli("diff layered:v1").ok().prints(top);
        t.cli("image diff layered:v1 busybox").ok().prints("A /a\nA /a/x\nA /new\nA /new/z");
        t.cli("image diff busybox layered:v1").ok().prints("D /a\nD /new");
        t.cli("image diff layered:v1 layered:v1").ok().prints("");
        let json = t.cli("image diff --format json layered:v1").ok();
        assert_eq!(json.lines()[2], r#"{"Path":"/a/y","Type":"D"}"#);
        t.cli("image diff --format table layered:v1").ok().says("CHANGE TYPE   PATH\nC             /a\n");
        t.cli("image diff nosuch").fails_with(1).complains("No such image: nosuch:latest");
        t.cli("image diff layered:v1 nosuch").fails_with(1).complains("No such image: nosuch:latest");
        t.cli("diff nosuch").fails_with(1).complains("No such container: nosuch");
        t.cli("diff NoSuch").fails_with(1).complains("No such container: NoSuch");
        t.api().get("/containers/layered:v1/changes").status(404);
    });
}

#[test]
fn a_commit_differs_by_what_its_container_changed() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "the peer does not compare images");
        }
        t.cli("run --name maker busybox sh -c 'echo hi > /etc/added; rm /etc/passwd; echo x >> /etc/group'").ok();
        let container = t.cli("diff maker").ok();
        t.cli("commit maker committed").ok();
        assert_eq!(t.cli("image diff committed").ok().stdout, container.stdout);
        t.cli("image diff committed busybox").ok().prints(&container.stdout);
    });
}

/// An index of this machine's busybox and of an image for a platform that is not fetched.
fn push_index(registry: &Registry, name: &str) {
    let image = Image::busybox();
    registry.push(name, &["plain"], &image);
    let manifest = image.manifest();
    let more = |seed: &str| {
        let image = Image::busybox_with(&[Entry::file("seed", seed)], json!({}));
        registry.push(name, &[seed], &image);
        image.manifest()
    };
    let (other, about) = (more("other"), more("statement"));
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let own = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let other = json!({ "mediaType": kind, "digest": digest(&other), "size": other.len(),
                        "platform": { "architecture": "s390x", "os": "linux" } });
    let statement = json!({ "mediaType": kind, "digest": digest(&about), "size": about.len(),
        "platform": { "architecture": "unknown", "os": "unknown" },
        "annotations": { "vnd.docker.reference.type": "attestation-manifest",
                         "vnd.docker.reference.digest": digest(&manifest) } });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": kind, "digest": digest(&manifest), "size": manifest.len(),
                        "platform": { "architecture": own, "os": "linux" } }, other, statement],
    });
    registry.push_manifest(name, "v1", "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
}

#[test]
fn images_are_shown_as_trees() {
    both(|t| {
        let name = t.name("tree");
        t.cli(&format!("tag busybox {name}:one")).ok();
        t.cli(&format!("tag busybox {name}-longer:one")).ok();
        t.cli(&format!("create --name {name} {name}:one true")).ok();
        let text = t.cli(&format!("images --tree --filter reference={name}*")).ok();
        let plain = text.stdout.replace("\u{1b}[39m\u{1b}[1m", "").replace("\u{1b}[0m", "");
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(
            lines[0],
            "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
        );
        assert_eq!(lines[1], format!("{:62}Info ->  U In Use ", ""));
        let width = name.len() + "-longer:one".len();
        assert_eq!(lines[3], format!("{:width$}   {:12}   DISK USAGE   CONTENT SIZE   EXTRA", "IMAGE", "ID"));
        assert_eq!(lines[4], format!("{name}-longer:one"));
        assert!(lines[5].starts_with(&format!("{name}:one")) && lines[5].ends_with("   U    "), "{plain}");
        let no_hint = t.cli("images --tree ls").ok();
        assert!(!no_hint.stderr.contains("did you mean"), "{no_hint}");

        for (flag, told) in [
            ("-q", "quiet"),
            ("--no-trunc", "no-trunc"),
            ("--digests", "show-digest"),
            ("--format x", "format"),
            ("--format false", "format"),
        ] {
            let refused = t.cli(&format!("images --tree {flag}")).fails_with(1);
            refused.complains(&format!("--{told} is not yet supported with --tree"));
        }
        t.set("DOCKER_API_VERSION", "1.46");
        t.cli("image ls --tree").fails_with(1).complains("\"--tree\" requires API version 1.47, but the ");
        t.set("DOCKER_API_VERSION", "");
        t.cli(&format!("rmi {name}-longer:one")).ok();
    });
}

#[test]
fn platforms_of_an_index_are_branches() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "a peer without the containerd store tells no manifests");
        }
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        push_index(&registry, "app");
        let name = registry.name("app:v1");
        t.cli(&format!("pull {name}")).ok();
        t.cli(&format!("run -d --name user {name} sleep 1000")).ok();
        let tree = t.cli("images --tree --filter reference=127.0.0.1:*/app").ok();
        let own = tree.row("├─ linux/");
        assert!(own.contains(" U "), "{tree}");
        let other = tree.row("└─ linux/s390x");
        assert!(other.contains(" 0B ") && !other.contains(" U "), "{tree}");
        tree.says_not("unknown");
        if t.cli == Cli::Hoist {
            t.cli("images --tree --filter reference=127.0.0.1:*/app").ok().says("\nIMAGE ");
        }
    });
}

#[test]
fn manifests_of_images_are_told_where_they_are_asked_for() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "a peer without the containerd store tells no manifests");
        }
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        push_index(&registry, "app");
        let name = registry.name("app:v1");
        t.cli(&format!("pull {name}")).ok();
        let api = t.api();
        let image = api.get(&format!("/images/{name}/json?manifests=1")).status(200).json();
        let manifests = image["Manifests"].as_array().unwrap();
        let kinds: Vec<&str> = manifests.iter().filter_map(|manifest| manifest["Kind"].as_str()).collect();
        assert_eq!(kinds, ["image", "image", "attestation"]);
        let (own, other) = (&manifests[0], &manifests[1]);
        assert_eq!((&own["Available"], &other["Available"]), (&json!(true), &json!(false)));
        assert_eq!(own["ID"], own["Descriptor"]["digest"]);
        assert_eq!(own["ImageData"]["Size"]["Unpacked"], image["Size"]);
        assert!(own["Size"]["Content"].as_u64().unwrap() > own["Descriptor"]["size"].as_u64().unwrap());
        assert_eq!(
            (&other["Size"]["Total"], &other["ImageData"]["Platform"]["architecture"]),
            (&json!(0), &json!("s390x"))
        );
        assert_eq!(manifests[2]["AttestationData"]["For"], own["ID"]);
        let both = api.get(&format!(
            "/images/{name}/json?manifests=1&platform=%7B%22os%22:%22linux%22,%22architecture%22:%22amd64%22%7D"
        ));
        assert_eq!(
            both.status(400).message(),
            "conflicting options: manifests and platform options cannot both be set"
        );
        for path in [format!("/images/{name}/json"), format!("/v1.47/images/{name}/json?manifests=1")] {
            assert_eq!(api.get(&path).status(200).json().get("Manifests"), None, "{path}");
        }
        let list = |path: &str| api.get(path).status(200).json();
        let items = |list: serde_json::Value| {
            list.as_array().unwrap().iter().filter(|item| item.get("Manifests").is_some()).count()
        };
        assert_eq!(items(list("/images/json?manifests=1")), 1, "busybox was loaded without a manifest");
        assert_eq!(items(list("/images/json")) + items(list("/v1.46/images/json?manifests=1")), 0);
    });
}
