//! Save: archives that `load` takes back, and what is in them.

use std::collections::BTreeMap;
use std::io::Read;

use hoist_tests::{Bed, Entry, Image, both, engine, hoist, skip};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn own_image(seed: &str) -> Image {
    Image::busybox_with(&[Entry::file("seed", seed)], json!({ "Cmd": ["cat", "/seed"] }))
}

fn remove(t: &Bed, names: &str) {
    t.cli(&format!("rmi -f {names}")).ok();
}

/// The files of an archive by name; one that is there twice fails the test.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        assert!(files.insert(name.clone(), bytes).is_none(), "{name} is there twice");
    }
    files
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The blob that a descriptor names, which must be what it says.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = &files[&format!("blobs/sha256/{hex}")];
    assert_eq!((digest(bytes).as_str(), bytes.len() as u64), (hex, descriptor["size"].as_u64().unwrap()));
    bytes
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn saved_images_are_loaded_again_with_all_their_tags() {
    both(|t| {
        let seed = t.name("saved");
        let (one, other, two) = (format!("{seed}-a:v1"), format!("{seed}-a:v2"), format!("{seed}-b:latest"));
        let (first, second) = (own_image(&format!("{seed}-1")), own_image(&format!("{seed}-2")));
        t.load(&one, &first);
        t.load(&two, &second);
        t.cli(&format!("tag {one} {other}")).ok();
        t.cli(&format!("save -o saved.tar {seed}-a {two}")).ok().prints("");
        remove(t, &format!("{one} {other} {two}"));
        let loaded = t.cli("load -i saved.tar").ok();
        for name in [&one, &other, &two] {
            assert!(loaded.stdout.contains(&format!("Loaded image: {name}")), "{loaded}");
        }
        t.cli(&format!("run --rm {one}")).ok().prints(&format!("{seed}-1"));
        t.cli(&format!("run --rm {two}")).ok().prints(&format!("{seed}-2"));
        t.cli(&format!("images -q --no-trunc {other}")).ok().prints(&first.id());
        remove(t, &format!("{one} {other}"));
        // By its id an image has no name in the archive; a repository's name stands for all its tags.
        t.cli(&format!("save -o by-id.tar {}", second.id())).ok();
        remove(t, &two);
        t.cli("load -i by-id.tar").ok().says(&format!("Loaded image ID: {}", second.id()));
        remove(t, &second.id());
    });
}

#[test]
fn a_saved_archive_is_an_oci_layout_and_dockers_own_form() {
    engine(|t| {
        let seed = t.name("layout");
        let (one, two) = (format!("{seed}:v1"), format!("{seed}:v2"));
        let images = [own_image(&format!("{seed}-1")), own_image(&format!("{seed}-2"))];
        t.load(&one, &images[0]);
        t.load(&two, &images[1]);
        let path = format!("/images/get?names={one}&names={two}");
        let reply = t.api().get(&path).status(200);
        assert_eq!(reply.header("Content-Type"), Some("application/x-tar"));
        let archive = reply.body;
        let files = files(&archive);
        assert_eq!(json_of(&files["oci-layout"]), json!({ "imageLayoutVersion": "1.0.0" }));
        let index = json_of(&files["index.json"]);
        assert_eq!((&index["schemaVersion"], &index["manifests"][2]), (&json!(2), &Value::Null));
        for (position, name) in [&one, &two].into_iter().enumerate() {
            let entry = index["manifests"].as_array().unwrap().iter();
            let full = format!("docker.io/library/{name}");
            let entry = entry.clone().find(|e| e["annotations"]["io.containerd.image.name"] == full).unwrap();
            assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], name.rsplit(':').next().unwrap());
            let manifest = json_of(blob(&files, entry));
            assert_eq!(manifest["mediaType"], entry["mediaType"]);
            assert_eq!(blob(&files, &manifest["config"]), images[position].config_blob());
            let layers: Vec<String> = manifest["layers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|layer| {
                    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
                    format!("sha256:{}", digest(blob(&files, layer)))
                })
                .collect();
            let wanted: Vec<&str> = images[position].layers.iter().map(|layer| layer.diff_id.as_str()).collect();
            assert_eq!(layers, wanted);
        }
        let manifest = json_of(&files["manifest.json"]);
        for item in manifest.as_array().unwrap() {
            assert!(files.contains_key(item["Config"].as_str().unwrap()));
            assert!(item["Layers"].as_array().unwrap().iter().all(|layer| files.contains_key(layer.as_str().unwrap())));
        }
        assert_eq!(json_of(&files["repositories"])[&seed].as_object().unwrap().len(), 2);
        if t.engine.is_own() {
            assert!(t.api().get(&path).status(200).body == archive, "the same images give other bytes");
        }
        t.api().delete(&format!("/images/{one}")).status(200);
        t.api().delete(&format!("/images/{two}")).status(200);
    });
}

#[test]
fn what_cannot_be_saved_is_refused_and_leaves_no_file() {
    both(|t| {
        let seed = t.name("refused");
        let name = format!("{seed}:v1");
        t.load(&name, &own_image(&seed));
        std::fs::write(t.home().join("kept.tar"), "what was there").unwrap();
        t.cli("save -o kept.tar no-such-image").fails_with(1).complains("No such image: no-such-image");
        t.cli(&format!("save -o kept.tar {name} {seed}:v2")).fails_with(1).complains("reference does not exist");
        assert_eq!(std::fs::read_to_string(t.home().join("kept.tar")).unwrap(), "what was there");
        t.cli(&format!("save -o no/such/directory.tar {name}")).fails_with(1).complains("no such file or directory");
        t.cli(&format!("save -o . {name}")).fails_with(1).complains("cannot write to a directory");
        t.cli(&format!("save -o /dev/null {name}")).fails_with(1).complains("cannot write to a character device");
        t.cli(&format!("save -o kept.tar --platform linux/s390x {name}")).fails_with(1).complains("linux/s390x");
        t.terminal(&format!("save {name}")).expect("cowardly refusing to save to a terminal");
        remove(t, &name);
    });
}

/// A loaded image of which one file is not what it was.
fn damaged(t: &Bed) -> String {
    let seed = t.name("damaged");
    let name = format!("{seed}:v1");
    t.load(&name, &own_image(&seed));
    let data = t.args(&["image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", &name]).ok();
    std::fs::write(std::path::Path::new(data.stdout.trim()).join("seed"), "x".repeat(seed.len())).unwrap();
    name
}

#[test]
fn an_archive_of_a_damaged_layer_is_cut_off_not_wrong() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "its layers are in another place");
        }
        let name = damaged(t);
        t.cli(&format!("save -o part.tar {name}")).fails_with(1);
        remove(t, &name);
    });
}

#[test]
fn a_save_that_fails_leaves_the_file_that_was_there() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "its layers are in another place");
        }
        let name = damaged(t);
        std::fs::write(t.home().join("kept.tar"), "what was there").unwrap();
        t.cli(&format!("save -o kept.tar {name}")).fails_with(1);
        assert_eq!(std::fs::read_to_string(t.home().join("kept.tar")).unwrap(), "what was there");
        let left = std::fs::read_dir(t.home()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<String> = left.map(|name| name.display().to_string()).collect();
        assert!(!left.iter().any(|file| file.starts_with(".kept.tar")), "{left:?}");
        remove(t, &name);
    });
}
