//! Times, pins and sizes: kept over restarts, gone with what they are about.

use std::path::Path;

use hoist_api::image::ContainerConfig;
use hoist_api::reference::Reference;
use hoist_db::Db;

use crate::ingest::Ingest;
use crate::unpack::Whiteouts;
use crate::{Config, Store, Users};

fn open(root: &Path) -> Store {
    Store::open(root, Db::open(&root.with_extension("db")).unwrap(), Config::default()).unwrap()
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// An image of one file.
fn add(store: &Store, reference: &str, bytes: usize) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", vec![b'x'; bytes].as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    store.import(&mut tar.as_slice(), Some(&name(reference)), &ContainerConfig::default(), "", None).unwrap()
}

fn remove(store: &Store, name: &str, force: bool) -> Result<Vec<crate::Removed>, crate::Error> {
    store.remove(name, force, false, &|_| Users::default())
}

#[test]
fn when_an_image_was_used_is_known_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let store = open(&root);
    let before = crate::now_ns();
    let id = add(&store, "a:1", 10);
    let image = store.get("a:1").unwrap();
    let added = store.last_used_ns(&image);
    assert!(added >= before && added <= crate::now_ns());
    // A later use is known at once, and a much later one to the next engine.
    store.touch(&id);
    let used = store.last_used_ns(&image);
    assert!(used > added);
    let much_later = used + 61 * 1_000_000_000;
    assert!(!store.shared.index().touch(&id, used + 1) && store.shared.index().touch(&id, much_later));
    assert!(!store.shared.index().touch(&id, much_later + 1), "once a minute");
    store.shared.db.write(|tx| crate::records::set_used(tx, &id, much_later)).unwrap();
    drop(store);
    let store = open(&root);
    assert_eq!(store.last_used_ns(&store.get("a:1").unwrap()), much_later);
    store.touch("sha256:nobody");
}

#[test]
fn a_pinned_name_keeps_whatever_image_it_stands_for() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let store = open(&root);
    let old = add(&store, "app:1", 10);
    assert_eq!(store.pin("app:1").unwrap(), old);
    let new = add(&store, "app:1", 20);
    drop(store);
    let store = open(&root);
    let is_pinned = |name: &str| store.get(name).unwrap().is_pinned;
    assert!(is_pinned(&new) && !is_pinned(&old));
    let refusal = remove(&store, "app:1", false).unwrap_err().to_string();
    assert!(refusal.contains("must force") && refusal.contains("is pinned"), "{refusal}");
    let refusal = remove(&store, &new, false).unwrap_err().to_string();
    assert!(refusal.contains("must be forced") && refusal.contains("is pinned"), "{refusal}");
    remove(&store, "app:1", true).unwrap();
    // The pin went with the name.
    add(&store, "app:1", 20);
    assert!(!store.get("app:1").unwrap().is_pinned);
    assert!(store.pin("nobody:1").is_err() && store.unpin("nobody:1").is_err());
}

#[test]
fn a_pin_goes_by_what_it_was_put_on_and_an_id_stands_for_all() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("store"));
    let id = add(&store, "app:1", 10);
    store.tag("app:1", &name("other:1")).unwrap();
    store.pin("app").unwrap_err();
    for pinned in ["app:1", "other:1", &id] {
        store.pin(pinned).unwrap();
    }
    assert_eq!(store.unpin("app:1").unwrap().1, [id.clone(), "other:1".to_owned()]);
    assert!(store.get(&id).unwrap().is_pinned);
    assert!(store.unpin(&id[7..19]).unwrap().1.is_empty());
    assert!(!store.get(&id).unwrap().is_pinned);
}

#[test]
fn layers_are_measured_once_and_add_up() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let store = open(&root);
    add(&store, "a:1", 1_000_000);
    add(&store, "b:1", 100);
    let disk = store.disk_bytes().unwrap();
    let found = crate::allocated::bytes(&root.join("layers")).unwrap();
    assert_eq!(disk.layers, found);
    store.wait_until_freed();
    let disk = store.disk_bytes().unwrap();
    assert_eq!(disk.images() + disk.leaving + disk.other, crate::allocated::bytes(&root).unwrap());
    assert!(disk.layers > 1_000_000 && disk.documents > 0 && disk.images() < 2_000_000, "{disk:?}");
    drop(store);
    // What is known is not looked at again.
    let store = open(&root);
    std::fs::write(root.join("layers/strange"), vec![0; 500_000]).unwrap();
    assert_eq!(store.disk_bytes().unwrap().layers, found);
    let none = std::collections::HashSet::new();
    assert_eq!(store.choose(1, &none, &none).image_ids, [store.get("a:1").unwrap().id.clone()]);
}

#[test]
fn a_layer_that_was_repaired_is_measured_again_by_the_next_engine_too() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("store"));
    add(&store, "a:1", 100_000);
    store.disk_bytes().unwrap();
    let diff_id = store.get("a:1").unwrap().diff_ids[0].clone();
    let measured = || crate::records::read(&store.shared.db).unwrap().disk_bytes.contains_key(&diff_id);
    assert!(measured());
    let mut tar = Vec::new();
    store.write_layer(&diff_id, &mut tar).unwrap();
    let ingest = Ingest::begin(&store.shared).unwrap();
    let draft = ingest.unpack(tar.as_slice(), Whiteouts::Plain).unwrap();
    ingest.replace(&draft).unwrap();
    assert!(!measured());
}
