//! Removal: Docker's rules and words, and what is left on disk.

use std::path::Path;

use hoist_db::Db;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::Config;

struct Place {
    root: TempDir,
    store: Store,
}

fn nobody(_: &Image) -> Users {
    Users::default()
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        Place { root, store }
    }

    /// An image with these layers, each a file of that name.
    fn image(&self, name: &str, layers: &[&str]) -> String {
        let tars: Vec<Vec<u8>> = layers.iter().map(|layer| tar_with(layer)).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest::of_bytes(tar)).collect();
        let config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids }, "comment": name });
        let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        let reference = Reference::parse(name).unwrap();
        self.store.install(&reference, config.to_string().as_bytes(), &tars).unwrap()
    }

    fn remove(&self, name: &str, force: bool) -> Result<Vec<Removed>, String> {
        self.store.remove(name, force, false, &nobody).map_err(|e| e.to_string())
    }

    fn count(&self, directory: &str) -> usize {
        self.store.wait_until_freed();
        assert_eq!(std::fs::read_dir(self.root.path().join("trash")).unwrap().count(), 0);
        std::fs::read_dir(self.root.path().join(directory)).unwrap().count()
    }
}

fn open(root: &Path) -> Store {
    Store::open(root, Db::open(&root.join("hoist.db")).unwrap(), Config::default()).unwrap()
}

fn tar_with(name: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    builder.append_data(&mut header, name, &b"x"[..]).unwrap();
    builder.into_inner().unwrap()
}

fn untagged(name: &str) -> Removed {
    Removed::Untagged(name.to_owned())
}

#[test]
fn the_last_name_takes_image_and_layers_along_but_not_shared_ones() {
    let place = Place::new();
    let one = place.image("one", &["base", "a"]);
    place.image("two", &["base", "b"]);
    assert_eq!(place.count("layers"), 3);
    let chain = digest::chain_ids(&place.store.get("one").unwrap().diff_ids);
    let removed = place.remove("one", false).unwrap();
    assert_eq!(removed, [untagged("one:latest"), Removed::Deleted(one), Removed::Layer(chain[1].clone())]);
    assert_eq!((place.count("layers"), place.count("blobs/sha256"), place.count("tmp")), (2, 1, 0));
    place.remove("two", false).unwrap();
    assert_eq!((place.count("layers"), place.count("blobs/sha256"), place.count("tmp")), (0, 0, 0));
    assert_eq!(place.remove("two", false).unwrap_err(), "No such image: two:latest");
}

#[test]
fn other_names_keep_the_image_and_its_id_needs_force() {
    let place = Place::new();
    let id = place.image("one", &["a"]);
    place.store.tag("one", &Reference::parse("reg.io/other:2").unwrap()).unwrap();
    assert_eq!(
        place.remove(&id, false).unwrap_err(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            &id[7..19]
        )
    );
    assert_eq!(place.remove("one:latest", false).unwrap(), [untagged("one:latest")]);
    place.store.tag(&id, &Reference::parse("one").unwrap()).unwrap();
    let removed = place.remove(&id[7..19], true).unwrap();
    assert_eq!(removed[..3], [untagged("one:latest"), untagged("reg.io/other:2"), Removed::Deleted(id)]);
}

#[test]
fn the_last_tag_takes_the_digests_of_its_repository_along() {
    let place = Place::new();
    let id = place.image("reg.io/one:1", &["a"]);
    let digest = format!("reg.io/one@{id}");
    let key = index::lookup_key(&Reference::parse(&digest).unwrap());
    place.store.shared.db.write_durable(|tx| records::put_name(tx, &key, &id)).unwrap();
    place.store.shared.index_mut().put_name(&key, &id);
    let removed = place.remove("reg.io/one:1", false).unwrap();
    assert_eq!(removed[..3], [untagged("reg.io/one:1"), Removed::WentAlong(digest), Removed::Deleted(id)]);
}

#[test]
fn containers_keep_their_image_in_dockers_words() {
    let place = Place::new();
    let id = place.image("one", &["a"]);
    let container = "0123456789abcdef".repeat(4);
    let stopped = |_: &Image| Users { stopped: vec![container.clone()], running: vec![] };
    let running = |_: &Image| Users { stopped: vec![], running: vec![container.clone()] };
    let words = |name: &str, force: bool, users: &dyn Fn(&Image) -> Users| {
        place.store.remove(name, force, false, users).unwrap_err().to_string()
    };
    let short = &id[7..19];
    assert_eq!(
        words("one", false, &stopped),
        format!(
            "conflict: unable to remove repository reference \"one\" (must force) - container 0123456789ab is using its \
             referenced image {short}"
        )
    );
    assert_eq!(
        words(&id, false, &stopped),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container 0123456789ab"
        )
    );
    assert_eq!(
        words(&id, true, &running),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container 0123456789ab"
        )
    );
    // By name and by force, a running container keeps the image but not its name.
    assert_eq!(place.store.remove("one", true, false, &running).unwrap(), [untagged("one:latest")]);
    assert!(place.store.get(&id).unwrap().repo_tags.is_empty());
    // A stopped one lets the image go; its layers stay while it holds a lease.
    place.store.lease(&container, &place.store.get(&id).unwrap()).unwrap();
    assert_eq!(place.store.remove(&id, true, false, &stopped).unwrap(), [Removed::Deleted(id)]);
    assert_eq!(place.count("layers"), 1);
    place.store.release(&container).unwrap();
    assert_eq!(place.count("layers"), 0);
}

#[test]
fn leases_names_and_layers_survive_a_restart_and_rubbish_does_not() {
    let place = Place::new();
    place.image("one", &["a", "b"]);
    place.store.lease("c1", &place.store.get("one").unwrap()).unwrap();
    place.remove("one", true).unwrap();
    place.image("two", &["c"]);
    let Place { root, store } = place;
    drop(store);
    for rubbish in ["tmp/1-2", "tmp/1-2/diff", "layers/0123", "layers/0123/diff"] {
        std::fs::create_dir(root.path().join(rubbish)).unwrap();
    }
    std::fs::write(root.path().join("blobs/sha256/abc"), "").unwrap();
    let place = Place { store: open(root.path()), root };
    assert_eq!((place.count("layers"), place.count("tmp"), place.count("blobs/sha256")), (3, 0, 1));
    assert_eq!(place.store.get("two").unwrap().repo_tags, ["two:latest"]);
    assert_eq!(place.store.lease_holders(), ["c1"]);
    place.store.release("c1").unwrap();
    place.store.release("c1").unwrap();
    assert_eq!(place.count("layers"), 1);
}

#[test]
fn an_image_whose_config_is_damaged_is_shown_and_kept() {
    let place = Place::new();
    let id = place.image("one", &["a"]);
    let Place { root, store } = place;
    drop(store);
    std::fs::write(root.path().join("blobs/sha256").join(&id[7..]), "{").unwrap();
    let store = open(root.path());
    let image = store.get("one").unwrap();
    assert!(image.document.is_null() && image.diff_ids.len() == 1 && image.size_bytes == 1);
    let place = Place { root, store };
    // Loading it again repairs it.
    assert_eq!(place.image("one", &["a"]), id);
    assert!(!place.store.get("one").unwrap().document.is_null());
    drop(place.store);
    assert!(!open(place.root.path()).get("one").unwrap().document.is_null());
}

#[test]
fn a_tag_by_digest_is_refused() {
    let place = Place::new();
    let id = place.image("one", &["a"]);
    let reference = Reference::parse(&format!("x@{id}")).unwrap();
    let text = place.store.tag("one", &reference).unwrap_err().to_string();
    assert_eq!(text, "refusing to create a tag with a digest reference");
    assert_eq!(
        place.store.tag("nope", &reference.with_tag("1")).unwrap_err().to_string(),
        "No such image: nope:latest"
    );
}

#[test]
fn a_name_whose_short_form_reads_as_another_goes_all_the_same() {
    let place = Place::new();
    let id = place.image("x:1", &["a"]);
    for name in ["docker.io/a.b/c:1", "m:1", "docker.io/localhost/y:2"] {
        place.store.tag("x:1", &Reference::parse(name).unwrap()).unwrap();
    }
    assert_eq!(place.store.get("x:1").unwrap().repo_tags, ["a.b/c:1", "m:1", "x:1", "localhost/y:2"]);
    place.remove("docker.io/a.b/c:1", false).unwrap();
    place.remove("docker.io/localhost/y:2", false).unwrap();
    assert_eq!(place.store.get(&id).unwrap().repo_tags, ["m:1", "x:1"]);
}

#[test]
fn a_pin_that_comes_in_the_last_moment_spares_the_image() {
    let place = Place::new();
    let id = place.image("x:1", &["a"]);
    place.store.tag("x:1", &Reference::parse("y:1").unwrap()).unwrap();
    place.store.pin("x:1").unwrap();
    for name in [&id, "x:1"] {
        if name == "x:1" {
            place.remove("y:1", false).unwrap();
        }
        let refused = place.store.remove(name, Force::SparingPins, true, &nobody).unwrap_err();
        assert!(matches!(&refused, Error::Conflict(text) if text.contains("is pinned")), "{refused}");
    }
    place.store.unpin("x:1").unwrap();
    let users = |_: &Image| Users { stopped: vec!["c".repeat(64)], running: Vec::new() };
    place.store.remove(&id, Force::SparingPins, true, &users).unwrap();
    assert!(place.store.list().is_empty());
}
