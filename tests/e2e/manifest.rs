//! Manifest lists: made, annotated, pushed and read by either client, from either's files.

use std::process::Command;

use hoist_tests::{Bed, Cli, Entry, Layer, Ran, Registry, both, digest, hoist, skip, test_bed};
use serde_json::{Value, json};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The registry, or the end of the test. Our client asks registries through an engine of ours only.
macro_rules! registry {
    ($t:expr) => {
        match Registry::start() {
            _ if $t.cli == Cli::Hoist && !$t.engine.is_own() => skip!("own-engine", "the peer has no such routes"),
            Some(registry) => registry,
            None => skip!("registry", "no docker-registry in the test bed"),
        }
    };
}

/// An image for a platform, as small as can be; returns its manifest's size and digest.
fn push(registry: &Registry, name: &str, platform: &Value, media_type: &str) -> (usize, String) {
    let (repository, tag) = name.split_once(':').unwrap();
    let layer = Layer::new(&[Entry::file("seed", name)]);
    let mut config = json!({ "config": {}, "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] } });
    for (key, value) in platform.as_object().unwrap() {
        config[key] = value.clone();
    }
    let config = config.to_string().into_bytes();
    registry.push_blob(repository, &layer.blob);
    registry.push_blob(repository, &config);
    let (config_type, layer_type) = match media_type {
        OCI => ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"),
        _ => ("application/vnd.docker.container.image.v1+json", Registry::layer_type()),
    };
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": { "mediaType": config_type, "size": config.len(), "digest": digest(&config) },
        "layers": [{ "mediaType": layer_type, "size": layer.blob.len(), "digest": digest(&layer.blob) }],
    });
    if media_type == OCI {
        manifest["annotations"] = json!({ "a<b": "c&d" });
    }
    let manifest = serde_json::to_vec_pretty(&manifest).unwrap();
    registry.push_manifest(repository, tag, media_type, &manifest);
    (manifest.len(), digest(&manifest))
}

fn amd64() -> Value {
    json!({ "architecture": "amd64", "os": "linux" })
}

fn arm64() -> Value {
    json!({ "architecture": "arm64", "os": "linux", "variant": "v8" })
}

/// What a registry has under a name: its media type and the bytes.
fn kept(registry: &Registry, name: &str) -> (String, Vec<u8>) {
    let (repository, tag) = name.split_once(['@', ':']).unwrap();
    let accept = [DOCKER, DOCKER_LIST, OCI, OCI_INDEX].join(", ");
    let path = format!("/v2/{repository}/manifests/{tag}");
    let reply = registry.api().request("GET", &path, &[("Accept", &accept)], b"").status(200);
    (reply.header("Content-Type").unwrap().to_owned(), reply.body.clone())
}

/// The real client, in the home of this run.
fn docker(t: &Bed, line: &str) -> Ran {
    let mut command = Command::new(test_bed().join("docker"));
    command.args(line.split_whitespace()).env_clear().env("DOCKER_CONFIG", t.home()).env("HOME", t.home());
    t.run(command)
}

#[test]
fn a_list_is_made_annotated_pushed_and_read_again() {
    both(|t| {
        let registry = registry!(t);
        let (one_bytes, one) = push(&registry, "app:amd64", &amd64(), DOCKER);
        let (two_bytes, two) = push(&registry, "app:arm64", &arm64(), DOCKER);
        let (list, images) =
            (registry.name("app:list"), [registry.name("app:amd64"), registry.name("app:arm64")].join(" "));
        t.cli(&format!("manifest create --insecure {list} {images}"))
            .ok()
            .prints(&format!("Created manifest list {list}"));
        let again = t.cli(&format!("manifest create --insecure {list} {images}")).fails_with(1);
        again.complains("refusing to amend an existing manifest list with no --amend flag");
        let flags = "--variant v9 --os-version 1 --os-features= --os-features x,y --os-features y";
        t.cli(&format!("manifest annotate {flags} {list} {}", registry.name("app:arm64"))).ok().prints("");
        let entry = |bytes: usize, digest: &str, platform: &str| {
            format!(
                "      {{\n         \"mediaType\": \"{DOCKER}\",\n         \"size\": {bytes},\n         \"digest\": \"{digest}\",\n         \
                 \"platform\": {{\n{platform}\n         }}\n      }}"
            )
        };
        let first = entry(one_bytes, &one, "            \"architecture\": \"amd64\",\n            \"os\": \"linux\"");
        let second = "            \"architecture\": \"arm64\",\n            \"os\": \"linux\",\n            \
             \"os.version\": \"1\",\n            \"os.features\": [\n               \"x\",\n               \"y\"\n            ],\n            \
             \"variant\": \"v9\"";
        let second = entry(two_bytes, &two, second);
        let expected = format!(
            "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{DOCKER_LIST}\",\n   \"manifests\": [\n{first},\n{second}\n   ]\n}}"
        );
        t.cli(&format!("manifest inspect {list}")).ok().prints(&expected);
        t.cli(&format!("manifest push -p --insecure {list}")).ok().prints(&digest(expected.as_bytes()));
        assert_eq!(kept(&registry, "app:list"), (DOCKER_LIST.to_owned(), expected.clone().into_bytes()));
        let gone = t.cli(&format!("manifest push {list}")).fails_with(1);
        gone.complains(&format!("No such manifest: {list}"));
        t.cli(&format!("manifest inspect --insecure {list}")).ok().prints(&expected);
        let verbose = t.cli(&format!("manifest inspect -v --insecure {list}")).ok().json();
        assert_eq!(verbose[1]["Ref"], format!("{list}@{two}"));
        assert_eq!(verbose[1]["Descriptor"]["platform"]["os.features"], json!(["x", "y"]));
        assert_eq!(verbose[0]["SchemaV2Manifest"]["schemaVersion"], 2);
    });
}

#[test]
fn images_of_other_repositories_are_brought_along() {
    both(|t| {
        let registry = registry!(t);
        let (_, one) = push(&registry, "oci:1", &amd64(), OCI);
        let windows = json!({ "architecture": "amd64", "os": "windows", "os.version": "10.0.1", "os.features": ["a"] });
        let (_, two) = push(&registry, "deep/er:1", &arm64(), DOCKER);
        let (_, three) = push(&registry, "win:1", &windows, DOCKER);
        let name = |name: &str| registry.name(name);
        let images = [name("oci:1"), name("deep/er:1"), name("win:1")].join(" ");
        let list = name("new/target:list");
        t.cli(&format!("manifest create --insecure {list} {images}")).ok();
        let pushed = t.cli(&format!("manifest push --insecure {list}")).ok();
        for digest in [&one, &two, &three] {
            let target = name(&format!("new/target@{digest}"));
            pushed.clone().says(&format!("Pushed ref {target} with digest: {digest}\n"));
            kept(&registry, &format!("new/target@{digest}"));
        }
        let (media_type, bytes) = kept(&registry, "new/target:list");
        assert!(pushed.stdout.ends_with(&format!("{}\n", digest(&bytes))), "{pushed}");
        // the first by name is the one of deep/er
        assert_eq!(media_type, DOCKER_LIST);
        let found: Value = serde_json::from_slice(&bytes).unwrap();
        let digests: Vec<&str> =
            found["manifests"].as_array().unwrap().iter().filter_map(|m| m["digest"].as_str()).collect();
        assert_eq!(digests, [&two, &one, &three]);
        assert_eq!(found["manifests"][2]["platform"], windows);
        let only = name("new/oci:list");
        t.cli(&format!("manifest create --insecure {only} {}", name("oci:1"))).ok();
        t.cli(&format!("manifest push --insecure {only}")).ok();
        assert_eq!(kept(&registry, "new/oci:list").0, OCI_INDEX);
    });
}

#[test]
fn a_manifest_is_shown_as_its_registry_has_it() {
    both(|t| {
        let registry = registry!(t);
        let (bytes, one) = push(&registry, "oci:1", &arm64(), OCI);
        let name = registry.name("oci:1");
        let plain = t.cli(&format!("manifest inspect --insecure {name}")).ok().says("\n\t\t\"a<b\": \"c&d\"\n");
        assert_eq!(plain.json()["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
        let verbose = t.cli(&format!("manifest inspect --insecure --verbose {name}")).ok();
        let shown = verbose.says("\"a\\u003cb\": \"c\\u0026d\"").json();
        let descriptor = json!({ "mediaType": OCI, "digest": one, "size": bytes, "platform": arm64() });
        assert_eq!((&shown["Ref"], &shown["Descriptor"]), (&json!(name), &descriptor));
        assert_eq!(shown["OCIManifest"], plain.json());
        let pinned = registry.name(&format!("oci@{one}"));
        assert_eq!(t.cli(&format!("manifest inspect --insecure {pinned}")).ok().stdout, plain.stdout);
    });
}

#[test]
fn mistakes_are_told_in_dockers_words() {
    both(|t| {
        let registry = registry!(t);
        push(&registry, "app:amd64", &amd64(), DOCKER);
        push(&registry, "odd:1", &json!({}), DOCKER);
        let (list, image) = (registry.name("app:list"), registry.name("app:amd64"));
        t.cli(&format!("manifest create --insecure {list} {image}")).ok();
        t.cli(&format!("manifest create --insecure elsewhere {image}")).ok();
        t.cli(&format!("manifest create --insecure {} {}", registry.name("odd:list"), registry.name("odd:1"))).ok();
        t.cli(&format!("manifest push --insecure {list}")).ok();
        let upper = "invalid reference format: repository name (library/UPPER) must be lowercase";
        let no = |name: &str| format!("no such manifest: {}", registry.name(name));
        let cases = [
            (format!("inspect --insecure {}", registry.name("app:no")), no("app:no")),
            (format!("inspect --insecure {}", registry.name("none")), no("none:latest")),
            (
                format!("inspect {list} {}", registry.name("app:no")),
                format!("No such manifest: {}", registry.name("app:no")),
            ),
            ("inspect UPPER".to_owned(), upper.to_owned()),
            ("inspect --insecure 127.0.0.1:1/x".to_owned(), "connect: connection refused".to_owned()),
            ("create UPPER x".to_owned(), format!("error parsing name for manifest list UPPER: {upper}")),
            (format!("create --insecure {} {list}", registry.name("app:2")), format!("{list} is a manifest list")),
            (
                format!("annotate --os bad {list} {image}"),
                "manifest entry for image has unsupported os/arch combination: bad/".to_owned(),
            ),
            (format!("annotate --os linux {list} x"), format!("manifest for image x does not exist in {list}")),
            ("annotate UPPER x".to_owned(), format!("annotate: error parsing name for manifest list UPPER: {upper}")),
            (
                "push elsewhere".to_owned(),
                format!(
                    "cannot use source images from a different registry than the target image: 127.0.0.1:{} != docker.io",
                    registry.port
                ),
            ),
            (
                "inspect elsewhere".to_owned(),
                "failed to assemble ManifestDescriptor: cannot use source images".to_owned(),
            ),
            (
                format!("push {}", registry.name("odd:list")),
                format!(
                    "manifest {} must have an OS and Architecture to be pushed to a registry",
                    registry.name("odd:1")
                ),
            ),
            ("rm nosuch:1".to_owned(), "No such manifest: docker.io/library/nosuch:1".to_owned()),
            ("create one".to_owned(), "'docker manifest create' requires at least 2 arguments".to_owned()),
        ];
        for (line, text) in cases {
            let text = if t.cli == Cli::Hoist { text.replace("'docker ", "'hoist ") } else { text };
            t.cli(&format!("manifest {line}")).fails_with(1).complains(&text);
        }
        t.cli(&format!("manifest rm {list} elsewhere")).ok().prints("");
        t.cli(&format!("manifest rm {list}")).fails_with(1);
    });
}

#[test]
fn either_client_goes_on_with_what_the_other_began() {
    hoist(|t| {
        let registry = registry!(t);
        if !test_bed().join("docker").is_file() {
            skip!("docker-client", "no docker client in the test bed");
        }
        push(&registry, "app:amd64", &amd64(), DOCKER);
        push(&registry, "other/app:arm64", &arm64(), OCI);
        let (one, two) = (registry.name("app:amd64"), registry.name("other/app:arm64"));
        let (ours, theirs) = (registry.name("app:ours"), registry.name("app:theirs"));
        t.cli(&format!("manifest create --insecure {ours} {one} {two}")).ok();
        docker(t, &format!("manifest create --insecure {theirs} {one} {two}")).ok();
        let file = |list: &str, image: &str| {
            let name = |text: &str| text.replace(':', "-").replace('/', "_");
            std::fs::read_to_string(t.home().join("manifests").join(name(list)).join(name(image))).unwrap()
        };
        for image in [&one, &two] {
            assert_eq!(file(&ours, image), file(&theirs, image), "{image}");
        }
        for list in [&ours, &theirs] {
            for flag in ["", "-v"] {
                let line = format!("manifest inspect {flag} {list}");
                assert_eq!(t.cli(&line).ok().stdout, docker(t, &line).ok().stdout, "{line}");
            }
            let line = format!("manifest inspect -v {list} {two}");
            assert_eq!(t.cli(&line).ok().stdout, docker(t, &line).ok().stdout, "{line}");
        }
        docker(t, &format!("manifest annotate --variant v9 {ours} {two}")).ok();
        t.cli(&format!("manifest annotate --variant v9 {theirs} {two}")).ok();
        let pushed = docker(t, &format!("manifest push -p --insecure {ours}")).ok();
        assert_eq!(t.cli(&format!("manifest push -p --insecure {theirs}")).ok().stdout, pushed.stdout);
        for line in [format!("manifest inspect --insecure {theirs}"), format!("manifest inspect --insecure -v {ours}")]
        {
            assert_eq!(t.cli(&line).ok().stdout, docker(t, &line).ok().stdout, "{line}");
        }
        let run = |list: &str| t.cli(&format!("pull --platform linux/amd64 {list}")).ok();
        run(&ours).says(&format!("Status: Downloaded newer image for {ours}"));
    });
}

#[test]
fn credentials_reach_the_registry_of_a_list() {
    hoist(|t| {
        if !t.engine.is_own() {
            let asked = t.cli("manifest inspect 127.0.0.1:1/x").fails_with(1);
            asked.complains("manifest is for engines of Hoist only: the engine at the other end is another one");
            return;
        }
        let Some(registry) = Registry::with_password() else { skip!("registry", "no docker-registry in the test bed") };
        let name = registry.name("busy:v1");
        t.cli(&format!("tag busybox {name}")).ok();
        let refused = t.cli(&format!("manifest inspect {name}")).fails_with(1);
        refused.complains(&format!("no such manifest: {name}: "));
        t.cli_with(&format!("login -u u --password-stdin 127.0.0.1:{}", registry.port), b"p").ok();
        t.cli(&format!("push {name}")).ok();
        let list = registry.name("busy/list:v1");
        t.cli(&format!("manifest create {list} {name}")).ok();
        t.cli(&format!("manifest push {list}")).ok().says("Pushed ref ");
        assert_eq!(t.cli(&format!("manifest inspect {list}")).ok().json()["manifests"][0]["platform"]["os"], "linux");
    });
}
