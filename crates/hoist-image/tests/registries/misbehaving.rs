//! Pulling from a server that may misbehave in any way a test can think of.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Answer, MEDIA_INDEX, MEDIA_MANIFEST, Made, Pack, Place, Server, digest, made, manifest_of};
use base64::Engine as _;
use hoist_api::reference::Reference;
use hoist_image::{Config, Credentials, Error, Platform};

fn name(server: &Server) -> String {
    format!("{}/x:1", server.address)
}

#[test]
fn layers_of_every_compression_come_out_the_same() {
    for pack in [Pack::Plain, Pack::Gzip, Pack::Zstd] {
        let server = Server::with(&made(&["one", "two"], pack), |_| None);
        let place = Place::new();
        place.pull(&name(&server)).unwrap();
        assert_eq!(
            (place.read(&name(&server), "etc/0"), place.read(&name(&server), "etc/1")),
            ("one".into(), "two".into())
        );
        assert_eq!(place.store.get(&name(&server)).unwrap().size_bytes, 6);
    }
}

#[test]
fn users_see_what_docker_shows() {
    let image = made(&["one"], Pack::Gzip);
    let server = Server::with(&image, |_| None);
    let (place, name) = (Place::new(), name(&server));
    place.pull(&name).unwrap();
    let (layer, manifest) = (digest(&image.layers[0]), digest(&image.manifest));
    let id = &layer[7..19];
    let wanted = [
        "1: Pulling from x".to_owned(),
        format!("{id}: Pulling fs layer"),
        format!("{id}: Verifying Checksum"),
        format!("{id}: Download complete"),
        format!("{id}: Pull complete"),
        format!("Digest: {manifest}"),
        format!("Status: Downloaded newer image for {name}"),
    ];
    assert_eq!(place.statuses(), wanted);
    assert_eq!(place.store.get(&name).unwrap().repo_digests, [format!("{}/x@{manifest}", server.address)]);
    place.pull(&name).unwrap();
    let wanted = ["1: Pulling from x".to_owned(), wanted[5].clone(), format!("Status: Image is up to date for {name}")];
    assert_eq!(place.statuses(), wanted);
    let pinned = format!("{}/x@{manifest}", server.address);
    place.pull(&pinned).unwrap();
    assert_eq!(place.statuses()[0], format!("{pinned}: Pulling from x"));
}

#[test]
fn bytes_that_are_not_what_their_digest_says_are_refused() {
    let image = made(&["one"], Pack::Gzip);
    let path = format!("/v2/x/blobs/{}", digest(&image.layers[0]));
    for kind in 0..3 {
        let (mut evil, wanted) = (image.layers[0].clone(), path.clone());
        let middle = evil.len() / 2;
        match kind {
            0 => evil[middle] ^= 1,
            1 => evil = vec![0; evil.len()],
            // Valid by itself, and another image's.
            _ => evil = made(&["two"], Pack::Gzip).layers[0].clone(),
        }
        let server = Server::with(&image, move |asked| (asked.path == wanted).then(|| Answer::ok(&evil)));
        let text = Place::new().refuse(&name(&server));
        assert_eq!(text, format!("filesystem layer verification failed for digest {}", digest(&image.layers[0])));
    }
    let (config, other) = (format!("/v2/x/blobs/{}", digest(&image.config)), made(&["two"], Pack::Gzip).config);
    let server = Server::with(&image, move |asked| (asked.path == config).then(|| Answer::ok(&other)));
    assert!(Place::new().refuse(&name(&server)).contains("image config verification failed"));
    let server = Server::with(&image, |asked| (asked.path.contains("manifests")).then(|| Answer::ok(b"{}")));
    let pinned = format!("{}/x@{}", server.address, digest(&image.manifest));
    assert!(Place::new().refuse(&pinned).contains("manifest verification failed for digest sha256:"));
    let server = Server::with(&image, |asked| {
        let lie = Answer::ok(b"{}").header("Docker-Content-Digest", &digest(b"x"));
        asked.path.contains("manifests").then_some(lie)
    });
    assert!(Place::new().refuse(&name(&server)).contains("manifest verification failed for digest sha256:"));
}

#[test]
fn a_layer_whose_diff_id_is_another_is_refused() {
    let image = made(&["one"], Pack::Gzip);
    let config = made(&["two"], Pack::Gzip).config;
    let manifest = manifest_of(&config, &image.layers).to_string().into_bytes();
    let server = Server::with(&Made { manifest, config, layers: image.layers }, |_| None);
    assert!(Place::new().refuse(&name(&server)).contains("the image config says"));
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    for with_ranges in [true, false] {
        let image = made(&["x".repeat(300_000).as_str()], Pack::Gzip);
        let layer = image.layers[0].clone();
        let (path, times) = (format!("/v2/x/blobs/{}", digest(&layer)), AtomicUsize::new(0));
        let server = Server::with(&image, move |asked| {
            if asked.path != path {
                return None;
            }
            let first = times.fetch_add(1, Ordering::SeqCst) == 0;
            let range =
                asked.headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            let start = range.filter(|_| with_ranges).unwrap_or(0_usize);
            let mut answer = Answer::ok(&layer[start..]);
            answer.cut_after = first.then_some(150_000);
            if start > 0 {
                answer.status = 206;
                answer = answer.header("Content-Range", &format!("bytes {start}-{}/{}", layer.len() - 1, layer.len()));
            }
            Some(answer)
        });
        let place = Place::new();
        place.pull(&name(&server)).unwrap();
        assert_eq!(place.read(&name(&server), "etc/0").len(), 300_000);
        let asked = server.requests(&digest(&image.layers[0]));
        assert_eq!(asked.len(), 2);
        assert!(asked[1].headers["range"].starts_with("bytes="), "{:?}", asked[1]);
        assert!(place.statuses().iter().any(|status| status.contains("Retrying in 1 second")));
    }
}

#[test]
fn a_layer_longer_than_its_manifest_says_is_refused() {
    let image = made(&["one"], Pack::Plain);
    let (path, mut long) = (format!("/v2/x/blobs/{}", digest(&image.layers[0])), image.layers[0].clone());
    long.extend([0; 4096]);
    let server = Server::with(&image, move |asked| (asked.path == path).then(|| Answer::ok(&long)));
    assert!(Place::new().refuse(&name(&server)).contains("longer than"));
}

#[test]
fn documents_of_doubtful_kind_are_refused() {
    let image = made(&["one"], Pack::Gzip);
    let mut both: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    both["manifests"] = serde_json::json!([both["config"]]);
    let plain: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let chart = {
        let mut chart = plain.clone();
        chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
        chart
    };
    let cases = [
        (both.to_string(), "", "mixes the keys"),
        (plain.to_string(), MEDIA_INDEX, "the registry said"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "", "schema 1 is not supported"),
        (chart.to_string(), "", "is not a container image"),
        ("{".to_owned(), "", "invalid manifest"),
        ("x".repeat(5 << 20), "", "larger than"),
    ];
    for (manifest, media_type, wanted) in cases {
        let server = Server::with(&image, move |asked| {
            let answer = Answer::ok(manifest.as_bytes()).header("Content-Type", media_type);
            (asked.path == "/v2/x/manifests/1" && asked.method == "GET").then_some(answer)
        });
        let text = Place::new().refuse(&name(&server));
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn an_index_leads_to_the_image_for_this_machine_or_the_one_asked_for() {
    let (host, other) = (made(&["host"], Pack::Gzip), made(&["other"], Pack::Gzip));
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let entry = |image: &Made, arch: &str| {
        serde_json::json!({ "mediaType": MEDIA_MANIFEST, "digest": digest(&image.manifest),
            "size": image.manifest.len(), "platform": { "os": "linux", "architecture": arch } })
    };
    let entries = [entry(&other, "s390x"), entry(&host, arch)];
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": entries }).to_string();
    let whole = digest(index.as_bytes());
    let mut all = made(&["host"], Pack::Gzip);
    all.layers.extend(other.layers.clone());
    all.layers.push(other.config.clone());
    let other_path = format!("/v2/x/manifests/{}", digest(&other.manifest));
    let server = Server::with(&all, move |asked| match asked.path.as_str() {
        "/v2/x/manifests/1" => Some(Answer::ok(index.as_bytes()).header("Content-Type", MEDIA_INDEX)),
        path if path == other_path => Some(Answer::ok(&other.manifest)),
        _ => None,
    });
    let (place, name) = (Place::new(), name(&server));
    place.pull(&name).unwrap();
    assert_eq!(place.read(&name, "etc/0"), "host");
    assert_eq!(place.store.get(&name).unwrap().repo_digests, [format!("{}/x@{whole}", server.address)]);
    let platform = |arch: &str| Platform { os: "linux".into(), architecture: arch.into(), variant: String::new() };
    place.pull_as(&name, Some(&platform("s390x")), None).unwrap();
    assert_eq!(place.read(&name, "etc/0"), "other");
    let text = place.pull_as(&name, Some(&platform("mips")), None).unwrap_err().to_string();
    assert_eq!(text, "no matching manifest for linux/mips in the manifest list entries");
}

#[test]
fn credentials_go_to_the_token_server_and_tokens_to_the_registry_only() {
    let image = made(&["one"], Pack::Gzip);
    let layer = image.layers[0].clone();
    let elsewhere = Server::start(move |_| Some(Answer::ok(&layer)));
    let target = format!("http://{}/blob?signature=1", elsewhere.address);
    let tokens = Server::start(|_| Some(Answer::ok(br#"{"token":"T"}"#)));
    let realm = format!(r#"Bearer realm="http://{}/token",service="reg",scope="repository:x:pull""#, tokens.address);
    let layer_path = format!("/v2/x/blobs/{}", digest(&image.layers[0]));
    let server = Server::with(&image, move |asked| {
        if asked.headers.get("authorization").map(String::as_str) != Some("Bearer T") {
            return Some(Answer::status(401, "{}").header("WWW-Authenticate", &realm));
        }
        (asked.path == layer_path).then(|| Answer::status(307, "").header("Location", &target))
    });
    let place = Place::new();
    let login = Credentials { username: "u".into(), password: "p".into(), ..Credentials::default() };
    place.pull_as(&name(&server), None, Some(&login)).unwrap();
    let asked = tokens.requests("/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?account=u&scope=repository%3Ax%3Apull&service=reg");
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("u:p"));
    assert_eq!(asked[0].headers["authorization"], basic);
    let asked = elsewhere.requests("/blob");
    assert!(asked.len() == 1 && !asked[0].headers.contains_key("authorization"), "{asked:?}");
}

#[test]
fn refusals_are_told_in_dockers_words() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v2/" => Some(Answer::ok(b"{}")),
        "/v2/closed/manifests/latest" => {
            Some(Answer::status(401, "{}").header("WWW-Authenticate", r#"Basic realm="r""#))
        }
        "/v2/denied/manifests/latest" => Some(Answer::status(
            403,
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
        )),
        _ => None,
    });
    let at = |path: &str| format!("{}/{path}", server.address);
    let place = Place::new();
    assert!(matches!(place.pull(&at("gone")), Err(Error::NotFound(_))));
    let wanted = format!("manifest for {} not found: manifest unknown: manifest unknown", at("gone:latest"));
    assert_eq!(place.refuse(&at("gone")), wanted);
    let wanted = format!(
        "pull access denied for {}, repository does not exist or may require 'docker login': denied: requested access to \
         the resource is denied",
        at("denied")
    );
    assert_eq!(place.refuse(&at("denied")), wanted);
    assert!(place.refuse(&at("closed")).ends_with("/v2/closed/manifests/latest\": no basic auth credentials"));
    let text = place.refuse("127.0.0.1:1/x");
    assert_eq!(text, "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused");
}

#[test]
fn a_busy_server_is_asked_again() {
    let times = AtomicUsize::new(0);
    let server = Server::with(&made(&["one"], Pack::Gzip), move |asked| {
        let busy = asked.path.contains("blobs") && times.fetch_add(1, Ordering::SeqCst) < 2;
        busy.then(|| Answer::status(503, "busy"))
    });
    Place::new().pull(&name(&server)).unwrap();
}

#[test]
fn a_mirror_serves_docker_hub_and_gets_no_credentials() {
    let image = made(&["one"], Pack::Gzip);
    let manifest = image.manifest.clone();
    let blobs: Vec<(String, Vec<u8>)> =
        image.layers.iter().chain([&image.config]).map(|blob| (digest(blob), blob.clone())).collect();
    let mirror = Server::start(move |asked| match asked.path.as_str() {
        "/v2/" => Some(Answer::ok(b"{}")),
        path if path.starts_with("/v2/library/x/manifests/") => Some(Answer::ok(&manifest)),
        path => blobs.iter().find(|(digest, _)| path.ends_with(digest)).map(|(_, blob)| Answer::ok(blob)),
    });
    let mirrors = vec!["http://127.0.0.1:1".to_owned(), format!("http://{}", mirror.address)];
    let place = Place::with(Config { registry_mirrors: mirrors, ..Config::default() });
    let login = Credentials { username: "u".into(), password: "p".into(), ..Credentials::default() };
    place.pull_as("x:1", None, Some(&login)).unwrap();
    assert_eq!(place.store.get("docker.io/library/x:1").unwrap().repo_tags, ["x:1"]);
    let pinned = format!("x@{}", digest(&image.manifest));
    place.statuses();
    place.pull(&pinned).unwrap();
    assert_eq!(place.statuses()[0], format!("docker.io/library/{pinned}: Pulling from library/x"));
    assert!(mirror.asked.lock().unwrap().iter().all(|asked| !asked.headers.contains_key("authorization")));
}

#[test]
fn what_is_kept_of_a_dropped_pull_can_be_given_up() {
    let image = made(&["x".repeat(300_000).as_str()], Pack::Gzip);
    let path = format!("/v2/x/blobs/{}", digest(&image.layers[0]));
    let server = Server::with(&image, move |asked| {
        if asked.path == path {
            std::thread::sleep(Duration::from_secs(3));
        }
        None
    });
    let place = Place::new();
    let reference = Reference::parse(&name(&server)).unwrap();
    let store = place.store.clone();
    let sink = place.sink();
    place.block_on(async {
        let pull = store.pull(&reference, false, None, None, sink);
        assert!(tokio::time::timeout(Duration::from_millis(500), pull).await.is_err());
    });
    for _ in 0..50 {
        // The pull's tasks let go of the layer a moment after it was dropped.
        place.store.forget_interrupted();
        if std::fs::read_dir(place.root.path().join("tmp")).unwrap().count() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    place.assert_empty();
}

#[test]
fn pulls_of_one_image_side_by_side_all_succeed_and_a_removal_in_between_breaks_none() {
    let server = Server::with(&made(&["one", "two", "three", "four"], Pack::Gzip), |_| None);
    let place = Place::new();
    let reference = Reference::parse(&name(&server)).unwrap();
    for _ in 0..5 {
        let remover = place.store.clone();
        let removed = name(&server);
        let removing = std::thread::spawn(move || {
            for _ in 0..20 {
                let _ = remover.remove(&removed, true, false, &|_| Default::default());
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        place.block_on(async {
            let pull = || place.store.pull(&reference, false, None, None, place.sink());
            let (a, b, c) = tokio::join!(pull(), pull(), pull());
            a.and(b).and(c).unwrap();
        });
        removing.join().unwrap();
        place.pull(&name(&server)).unwrap();
        assert_eq!(place.read(&name(&server), "etc/3"), "four");
    }
    place.store.remove(&name(&server), true, false, &|_| Default::default()).unwrap();
    place.assert_empty();
}
