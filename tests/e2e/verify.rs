//! `image verify`: damage is found, named and mended from where the image came.

use std::path::PathBuf;

use hoist_tests::{Bed, Entry, Image, Registry, hoist, skip};
use serde_json::json;

/// The file `/seed` of the only layer that has one, where the engine keeps it.
fn stored_seed(t: &Bed) -> PathBuf {
    let layers = t.engine.directory().join("d/image/layers");
    let layers = std::fs::read_dir(&layers).unwrap_or_else(|e| panic!("{}: {e}", layers.display()));
    let mut found = layers.map(|layer| layer.unwrap().path().join("diff/seed")).filter(|path| path.exists());
    found.next().expect("a layer with /seed")
}

fn images_blob(t: &Bed, digest: &str) -> PathBuf {
    t.engine.directory().join("d/image/blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

fn pulled(t: &Bed, registry: &Registry) -> String {
    let image = Image::busybox_with(&[Entry::file("seed", "as it came")], json!({}));
    registry.push("x", &["v1"], &image);
    let name = registry.name("x:v1");
    t.cli(&format!("pull {name}")).ok();
    name
}

#[test]
fn a_damaged_file_is_found_and_its_layer_fetched_again() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "damages an engine\'s store");
        }
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let name = pulled(t, &registry);
        t.cli(&format!("image verify {name}")).ok().says("1 images, 2 layers and 1 documents verified");
        std::fs::write(stored_seed(t), "AS IT CAME").unwrap();
        let found = t.cli(&format!("image verify {name}")).fails_with(1);
        found.says(": damaged\n    /seed has ").complains("(--repair fetches them again)");
        t.cli(&format!("image verify --repair {name}")).ok().says(": repaired from ").says(", 1 repaired");
        t.cli("image verify").ok().says_not("damaged");
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints("as it came");
    });
}

#[test]
fn a_layer_that_is_gone_or_a_document_that_is_spoilt_comes_back() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "damages an engine\'s store");
        }
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let name = pulled(t, &registry);
        let layer = stored_seed(t);
        std::fs::remove_dir_all(layer.ancestors().nth(2).unwrap()).unwrap();
        let id = t.args(&["image", "inspect", "--format", "{{.Id}}", &name]).ok().stdout;
        std::fs::write(images_blob(t, id.trim()), "{}").unwrap();
        t.engine.terminate();
        t.engine.start_again();
        t.cli("image verify").fails_with(1).says("directory is missing").says("is damaged");
        t.cli("image verify --repair").ok().says(", 2 repaired");
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints("as it came");
        t.args(&["image", "inspect", "--format", "{{.Architecture}}", &name]).ok().prints("amd64");
    });
}

#[test]
fn a_layer_is_not_replaced_under_a_running_container() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "damages an engine\'s store");
        }
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let name = pulled(t, &registry);
        t.cli(&format!("run -d --name user {name} sleep 1000")).ok();
        std::fs::write(stored_seed(t), "changed").unwrap();
        let refused = t.cli("image verify --repair").fails_with(1);
        refused.says("not repaired: container user runs on it: stop that first");
        t.cli("rm -f user").ok();
        t.cli("image verify --repair").ok().says(", 1 repaired");
    });
}

#[test]
fn what_cannot_be_fetched_again_is_told_and_left() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "damages an engine\'s store");
        }
        let image = Image::busybox_with(&[Entry::file("seed", "loaded")], json!({}));
        t.load("loaded:v1", &image);
        std::fs::write(stored_seed(t), "changed").unwrap();
        let told = t.cli("image verify --repair loaded:v1").fails_with(1);
        told.says("not repaired: no registry is known that has it").says("/seed has");
        t.cli("image verify nosuch").fails_with(1).complains("No such image: nosuch:latest");
    });
}
