//! Archives of every shape `docker save` has had, OCI layouts, and broken ones.

use std::io::Write;
use std::sync::{Arc, Mutex};

use hoist_db::Db;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{Config, digest};

struct Place {
    root: TempDir,
    store: Store,
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Db::in_memory().unwrap(), Config::default()).unwrap();
        Place { root, store }
    }

    /// Loads; what was said on the stream.
    fn load(&self, archive: &[u8]) -> Result<Vec<String>, String> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let sink: ProgressSink = Arc::new(move |p: Progress| heard.lock().unwrap().extend(p.stream));
        self.store.load(&mut &archive[..], &[], &sink).map_err(|e| e.to_string())?;
        let said = said.lock().unwrap().clone();
        Ok(said)
    }

    /// Fails; and leaves nothing behind.
    fn refuse(&self, archive: &[u8]) -> String {
        let text = self.load(archive).unwrap_err();
        assert!(self.store.list().is_empty());
        self.store.wait_until_freed();
        for directory in ["tmp", "trash", "layers", "blobs/sha256"] {
            let left: Vec<_> = std::fs::read_dir(self.root.path().join(directory)).unwrap().collect();
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
        text
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn link(builder: &mut tar::Builder<Vec<u8>>, path: &str, target: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, path, target).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn layer(text: &str) -> Vec<u8> {
    tar(&[("etc/which", text.as_bytes())])
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest::of_bytes(layer)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-02T03:04:05Z", "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": layers.iter().map(|_| json!({ "created_by": "test" })).collect::<Vec<_>>(),
    });
    serde_json::to_vec(&config).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    digest::of_bytes(bytes).trim_start_matches("sha256:").to_owned()
}

/// An archive as `docker save` writes it now.
fn saved(tags: &[&str], layers: &[&[u8]]) -> Vec<u8> {
    let config = config_of(layers);
    let paths: Vec<String> = layers.iter().map(|layer| format!("blobs/sha256/{}", hex(layer))).collect();
    let config_path = format!("blobs/sha256/{}", hex(&config));
    let manifest = json!([{ "Config": config_path, "RepoTags": tags, "Layers": paths }]).to_string();
    let mut files: Vec<(&str, &[u8])> = vec![("manifest.json", manifest.as_bytes()), (&config_path, &config)];
    files.extend(paths.iter().map(String::as_str).zip(layers.iter().copied()));
    // The order of entries means nothing.
    files.reverse();
    tar(&files)
}

#[test]
fn an_archive_of_today_loads_with_its_tags() {
    let place = Place::new();
    let (one, two) = (layer("one"), layer("two"));
    let archive = saved(&["x:1", "reg.io/y:2"], &[&one, &two]);
    assert_eq!(place.load(&archive).unwrap(), ["Loaded image: x:1\n", "Loaded image: reg.io/y:2\n"]);
    let image = place.store.get("x:1").unwrap();
    assert_eq!((image.size_bytes, image.created, image.diff_ids.len()), (6, 1_577_934_245, 2));
    assert_eq!(image.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
    let paths = place.store.layer_paths(&image);
    assert_eq!(std::fs::read_to_string(paths[0].join("etc/which")).unwrap(), "two");
    assert_eq!(std::fs::read_to_string(paths[1].join("etc/which")).unwrap(), "one");
    assert_eq!(place.load(&gzip(&archive)).unwrap().len(), 2);
    assert_eq!(place.load(&zstd::encode_all(archive.as_slice(), 1).unwrap()).unwrap().len(), 2);
    assert_eq!(place.store.list().len(), 1);
}

#[test]
fn a_tag_moves_and_the_old_image_stays_without_name() {
    let place = Place::new();
    place.load(&saved(&["x:1"], &[&layer("one")])).unwrap();
    let old = place.store.get("x:1").unwrap().id.clone();
    let said = place.load(&saved(&["x:1"], &[&layer("two")])).unwrap();
    let moved = format!("The image x:1 already exists, renaming the old one with ID {old} to empty string\n");
    assert_eq!(said, [moved, "Loaded image: x:1\n".to_owned()]);
    assert!(place.store.get(&old).unwrap().repo_tags.is_empty());
}

#[test]
fn an_archive_without_tags_tells_the_id() {
    let place = Place::new();
    let layer = layer("one");
    let id = digest::of_bytes(&config_of(&[&layer]));
    assert_eq!(place.load(&saved(&[], &[&layer])).unwrap(), [format!("Loaded image ID: {id}\n")]);
    assert_eq!(place.store.get(&id[7..19]).unwrap().id, id);
}

#[test]
fn an_archive_of_2016_loads_with_its_linked_layers() {
    let place = Place::new();
    let shared = layer("shared");
    let config = config_of(&[&shared, &shared]);
    let name = format!("{}.json", hex(&config));
    let manifest = json!([{ "Config": name, "RepoTags": ["x:1"], "Layers": ["aa/layer.tar", "bb/layer.tar"] }]);
    let mut builder = tar::Builder::new(Vec::new());
    link(&mut builder, "bb/layer.tar", "../aa/layer.tar");
    let mut archive = builder.into_inner().unwrap();
    archive.truncate(archive.len() - 1024);
    let manifest = manifest.to_string();
    let files: [(&str, &[u8]); 4] =
        [("aa/VERSION", b"1.0"), ("aa/layer.tar", &shared), (&name, &config), ("manifest.json", manifest.as_bytes())];
    archive.extend(tar(&files));
    place.load(&archive).unwrap();
    assert_eq!(place.store.layer_paths(&place.store.get("x:1").unwrap()).len(), 1);
}

#[test]
fn an_archive_from_before_2016_loads_by_its_chain() {
    let place = Place::new();
    let (low, high) = (layer("low"), layer("high"));
    let repositories = json!({ "x": { "1": "bb" } }).to_string();
    let below = json!({ "id": "aa", "created": "2014-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
        "container_config": { "Cmd": ["/bin/sh", "-c", "#(nop) ADD x"] } });
    let above = json!({ "id": "bb", "parent": "aa", "created": "2014-01-02T00:00:00Z", "os": "linux",
        "architecture": "amd64", "config": { "Cmd": ["sh"], "Volumes": null }, "Size": 4 });
    let (below, above) = (below.to_string(), above.to_string());
    let archive = tar(&[
        ("repositories", repositories.as_bytes()),
        ("aa/json", below.as_bytes()),
        ("aa/layer.tar", &low),
        ("bb/json", above.as_bytes()),
        ("bb/layer.tar", &high),
    ]);
    place.load(&archive).unwrap();
    let image = place.store.get("x:1").unwrap();
    assert_eq!(image.diff_ids, [digest::of_bytes(&low), digest::of_bytes(&high)]);
    assert_eq!(image.document.get("parent"), None);
    let history = place.store.history(&image).unwrap();
    assert_eq!(history[1].created_by, "/bin/sh -c #(nop) ADD x");
    assert_eq!((history[0].id.as_str(), history[1].id.as_str()), (image.id.as_str(), "<missing>"));
    let cyclic =
        tar(&[("repositories", br#"{"x":{"1":"aa"}}"#), ("aa/json", br#"{"parent":"aa"}"#), ("aa/layer.tar", &low)]);
    assert!(Place::new().refuse(&cyclic).contains("do not end"));
}

/// An OCI layout with a gzip layer behind an index of platforms.
fn oci(annotations: &Value, change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let plain = layer("oci");
    let config = config_of(&[&plain]);
    let squeezed = gzip(&plain);
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |bytes: &[u8], media_type: &str| {
        blobs.push((format!("blobs/sha256/{}", hex(bytes)), bytes.to_vec()));
        json!({ "mediaType": media_type, "digest": digest::of_bytes(bytes), "size": bytes.len() })
    };
    let config = add(&config, "application/vnd.oci.image.config.v1+json");
    let layer = add(&squeezed, "application/vnd.oci.image.layer.v1.tar+gzip");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] }).to_string();
    let mut manifest = add(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    manifest["platform"] = json!({ "os": "linux", "architecture": Platform::host().architecture });
    let mut other = manifest.clone();
    other["platform"] = json!({ "os": "linux", "architecture": "none" });
    let index = json!({ "schemaVersion": 2, "manifests": [other, manifest] }).to_string();
    let mut index = add(index.as_bytes(), "application/vnd.oci.image.index.v1+json");
    index["annotations"] = annotations.clone();
    let top = json!({ "schemaVersion": 2, "manifests": [index] }).to_string();
    blobs.push(("index.json".into(), top.into_bytes()));
    blobs.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    change(&mut blobs);
    tar(&blobs.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

#[test]
fn an_oci_layout_loads_by_its_annotations() {
    let place = Place::new();
    let named =
        json!({ "io.containerd.image.name": "docker.io/library/x:1", "org.opencontainers.image.ref.name": "1" });
    assert_eq!(place.load(&oci(&named, |_| {})).unwrap(), ["Loaded image: x:1\n"]);
    let bare = json!({ "org.opencontainers.image.ref.name": "latest" });
    assert!(Place::new().load(&oci(&bare, |_| {})).unwrap()[0].starts_with("Loaded image ID: sha256:"));
    let short = json!({ "org.opencontainers.image.ref.name": "reg.io/x" });
    assert_eq!(Place::new().load(&oci(&short, |_| {})).unwrap(), ["Loaded image: reg.io/x:latest\n"]);
}

#[test]
fn an_oci_layout_with_other_bytes_than_its_names_say_is_refused() {
    for position in 0..4 {
        let swapped = oci(&Value::Null, |blobs| {
            let bytes = if position == 1 { gzip(&layer("other")) } else { b"{\"schemaVersion\":2}".to_vec() };
            blobs[position].1 = bytes;
        });
        let text = Place::new().refuse(&swapped);
        assert!(text.contains("digest") || text.contains("diffID"), "{position}: {text}");
        let missing = oci(&Value::Null, |blobs| drop(blobs.remove(position)));
        assert!(Place::new().refuse(&missing).contains("missing"), "{position}");
    }
}

#[test]
fn broken_archives_are_refused_and_leave_nothing() {
    let one = layer("one");
    let good = saved(&["x:1"], &[&one]);
    assert!(Place::new().refuse(&good[..good.len() / 2]).contains("unexpected EOF"));
    assert!(Place::new().refuse(b"garbage").contains("unexpected EOF"));
    assert!(Place::new().refuse(&[b'x'; 2000]).contains("invalid tar header"));
    assert!(Place::new().refuse(b"").contains("neither manifest.json nor index.json"));
    assert!(Place::new().refuse(&tar(&[("a", b"b")])).contains("neither manifest.json nor index.json"));
    assert!(Place::new().refuse(&saved(&["Bad Tag"], &[&one])).contains("invalid reference format"));
    assert!(Place::new().refuse(&saved(&["x"], &[&one])).contains("invalid tag"));
    let config = config_of(&[&one, &one]);
    let manifest = |layers: &str| format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":{layers}}}]"#);
    let archive = |manifest: &str, layer: &[u8]| {
        tar(&[("manifest.json", manifest.as_bytes()), ("c.json", &config), ("l.tar", layer)])
    };
    let few = archive(&manifest(r#"["l.tar"]"#), &one);
    assert!(Place::new().refuse(&few).contains("layers length mismatch: expected 1, got 2"));
    let wrong = archive(&manifest(r#"["l.tar","l.tar"]"#), &layer("two"));
    assert!(Place::new().refuse(&wrong).contains("invalid diffID for layer 0"));
    let absent = archive(&manifest(r#"["l.tar","../../etc/passwd"]"#), &one);
    assert!(Place::new().refuse(&absent).contains("missing"));
    let text = archive(&manifest(r#"["l.tar","c.json"]"#), &one);
    assert!(Place::new().refuse(&text).contains("is not a layer"));
    assert!(Place::new().refuse(&archive("[{}]", &one)).contains("invalid manifest.json"));
    assert!(Place::new().refuse(&archive("[{", &one)).contains("invalid manifest.json"));
}

#[test]
fn parents_are_taken_only_where_the_history_says_so() {
    let one = layer("one");
    let config = |steps: usize| {
        let mut config: Value = serde_json::from_slice(&config_of(&[&one])).unwrap();
        config["history"] = (0..steps).map(|n| json!({ "created_by": n.to_string(), "empty_layer": n > 0 })).collect();
        serde_json::to_vec(&config).unwrap()
    };
    let (parent, child) = (config(1), config(2));
    let (parent_id, child_id) = (digest::of_bytes(&parent), digest::of_bytes(&child));
    let item = |config: &str, parent: &str| json!({ "Config": config, "Layers": ["l.tar"], "Parent": parent });
    let load = |manifest: Value| {
        let place = Place::new();
        let manifest = manifest.to_string();
        let files: [(&str, &[u8]); 4] =
            [("manifest.json", manifest.as_bytes()), ("p.json", &parent), ("c.json", &child), ("l.tar", &one)];
        place.load(&tar(&files)).unwrap();
        place
    };
    let remove = |place: &Place, id: &str| place.store.remove(id, true, true, &|_| crate::Users::default());
    let place = load(json!([item("p.json", ""), item("c.json", &parent_id)]));
    assert!(remove(&place, &parent_id).unwrap_err().to_string().contains("dependent child images"));
    // In a circle, or its own: neither could be removed again.
    for manifest in [
        json!([item("p.json", &child_id), item("c.json", &parent_id)]),
        json!([item("p.json", &parent_id), item("c.json", &child_id)]),
    ] {
        let place = load(manifest);
        remove(&place, &child_id).unwrap();
        remove(&place, &parent_id).unwrap();
        assert!(place.store.list().is_empty());
    }
}

#[test]
fn an_evil_layer_fails_the_load_and_leaves_nothing() {
    let mut evil = layer("x");
    // Makes the first name climb; the checksum follows.
    evil[..9].copy_from_slice(b"../../etc");
    let sum: u32 =
        evil[..512].iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) }).sum();
    evil[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let text = Place::new().refuse(&saved(&["x:1"], &[&evil]));
    assert!(text.contains("outside of the layer"), "{text}");
    let squeezed = gzip(&layer("x"));
    let cut = &squeezed[..squeezed.len() - 4];
    assert!(Place::new().refuse(&saved(&["x:1"], &[cut])).contains("failed to register layer"));
}

#[test]
fn an_image_of_200_layers_loads() {
    let layers: Vec<Vec<u8>> = (0..200).map(|n| layer(&n.to_string())).collect();
    let place = Place::new();
    place.load(&saved(&["many:1"], &layers.iter().map(Vec::as_slice).collect::<Vec<_>>())).unwrap();
    assert_eq!(place.store.layer_paths(&place.store.get("many:1").unwrap()).len(), 200);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]

    #[test]
    fn an_archive_with_bytes_changed_loads_whole_or_leaves_nothing(
        changes in proptest::collection::vec(proptest::arbitrary::any::<(usize, u8)>(), 1..6)
    ) {
        let layer = layer("one");
        let mut archive = saved(&["x:1"], &[&layer]);
        let length = archive.len();
        for (position, byte) in changes {
            archive[position % length] = byte;
        }
        let place = Place::new();
        match place.load(&archive) {
            Ok(_) => assert!(place.store.list().iter().all(|image| place.store.layer_paths(image)[0].is_dir())),
            Err(_) => assert!(std::fs::read_dir(place.root.path().join("layers")).unwrap().next().is_none()),
        }
    }
}

#[test]
fn archives_and_layers_may_be_packed_with_xz_and_bzip2() {
    let xz = |bytes: &[u8]| liblzma::encode_all(bytes, 6).unwrap();
    let bzip2 = |bytes: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let one = layer("one");
    for pack in [&xz as &dyn Fn(&[u8]) -> Vec<u8>, &bzip2] {
        let place = Place::new();
        assert_eq!(place.load(&pack(&saved(&["x:1"], &[&one]))).unwrap(), ["Loaded image: x:1\n"]);
        let config = config_of(&[&one]);
        let manifest = br#"[{"Config":"c.json","RepoTags":["x:2"],"Layers":["l.tar"]}]"#;
        let packed = tar(&[("manifest.json", manifest), ("c.json", &config), ("l.tar", &pack(&one))]);
        assert_eq!(Place::new().load(&packed).unwrap(), ["Loaded image: x:2\n"]);
    }
}

#[test]
fn only_images_for_the_platform_that_was_asked_for_are_loaded() {
    let archive = saved(&["x:1"], &[&layer("one")]);
    let load = |platform: &str| {
        let place = Place::new();
        let sink: ProgressSink = Arc::new(|_| {});
        let platforms = [Platform::parse(platform).unwrap()];
        place.store.load(&mut &archive[..], &platforms, &sink).map(|_| place.store.list().len())
    };
    let own = Place::new();
    own.load(&archive).unwrap();
    let made_for = own.store.list()[0].architecture.clone();
    assert_eq!(load(&format!("linux/{made_for}")).unwrap(), 1);
    assert_eq!(load("linux/s390x").unwrap_err().to_string(), "the archive has no image for platform linux/s390x");
}
