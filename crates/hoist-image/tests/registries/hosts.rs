//! `hosts.toml` and `certs.d`: other places for a registry, and what each is asked for.

use std::path::Path;
use std::sync::Arc;

use hoist_api::reference::Reference;
use hoist_image::{Config, Keyring, MayReplace};

use crate::model::{Model, State};
use crate::pushing::{holding, install};
use crate::support::{Pack, Place, digest, made};

/// A place that reads its registries' settings from a directory of its own.
fn configured() -> (Place, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { registry_config_dir: Some(directory.path().to_owned()), ..Config::default() };
    (Place::with(config), directory)
}

fn write(directory: &Path, registry: &str, text: &str) {
    std::fs::create_dir_all(directory.join(registry)).unwrap();
    std::fs::write(directory.join(registry).join("hosts.toml"), text).unwrap();
}

#[test]
fn an_image_comes_from_the_first_host_that_has_it_by_its_name_there() {
    let image = made(&["one"], Pack::Gzip);
    let (empty, full) = (Model::start(State::default()), holding(&image, State::default()));
    let (place, directory) = configured();
    let text = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\n[host.\"http://{1}\"]\n\
         [host.\"http://{1}\".header]\nx-test = \"told\"\n[host.\"http://{1}\".rewrite]\n\"^o/(.*)$\" = \"$1\"\n",
        empty.address, full.address
    );
    write(directory.path(), "reg.example.com", &text);
    place.pull("reg.example.com/o/x:1").unwrap();
    assert_eq!(place.store.get("reg.example.com/o/x:1").unwrap().id, digest(&image.config));
    assert!(empty.count("HEAD", "/v2/o/x/manifests/1?ns=reg.example.com") > 0);
    assert!(full.count("GET", "/v2/x/manifests/1?ns=reg.example.com") > 0);
    assert!(full.state.lock().unwrap().seen.iter().all(|value| value == "told"));
    assert!(empty.state.lock().unwrap().seen.is_empty());
}

#[test]
fn a_host_that_only_holds_content_is_not_asked_for_tags() {
    let (old, new) = (made(&["old"], Pack::Gzip), made(&["new"], Pack::Gzip));
    let (mirror, server) = (holding(&old, State::default()), holding(&new, State::default()));
    {
        // The mirror has the newer content, and an older idea of the tag.
        let (mut mirror, server) = (mirror.state.lock().unwrap(), server.state.lock().unwrap());
        mirror.blobs.extend(server.blobs.clone());
        let by_digest = ("x".to_owned(), digest(&new.manifest));
        mirror.manifests.insert(by_digest.clone(), server.manifests[&by_digest].clone());
    }
    let (place, directory) = configured();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        server.address, mirror.address
    );
    write(directory.path(), "_default", &text);
    place.pull("reg.example.com/x:1").unwrap();
    assert_eq!(place.store.get("reg.example.com/x:1").unwrap().id, digest(&new.config));
    assert_eq!(server.count("GET", "/blobs/"), 0);
    let reference = Reference::parse("reg.example.com/x:1").unwrap();
    let told = place.block_on(place.store.distribution(&reference, None)).unwrap();
    assert_eq!(told.digest, digest(&new.manifest));
    assert_eq!((mirror.count("GET", "/manifests/1"), mirror.count("HEAD", "/manifests/1")), (0, 0));
}

#[test]
fn a_push_goes_to_the_hosts_that_take_one() {
    let image = made(&["one"], Pack::Plain);
    let (mirror, server) = (Model::start(State::default()), Model::start(State::default()));
    let (place, directory) = configured();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        server.address, mirror.address
    );
    write(directory.path(), "reg.example.com", &text);
    install(&place, &image, "reg.example.com/x:1");
    place.push("reg.example.com/x:1").unwrap();
    assert!(!server.manifest("x", "1").is_empty());
    assert!(mirror.state.lock().unwrap().asked.is_empty());
}

#[test]
fn what_a_host_is_told_is_not_told_where_it_redirects_to() {
    let image = made(&["one"], Pack::Gzip);
    let storage = holding(&image, State::default());
    let host = holding(&image, State { blobs_elsewhere: Some(storage.address.clone()), ..State::default() });
    let (place, directory) = configured();
    let text = format!("server = \"http://{}\"\n[header]\nx-test = \"secret\"\n", host.address);
    write(directory.path(), "reg.example.com", &text);
    place.pull("reg.example.com/x:1").unwrap();
    assert!(storage.count("GET", "/blobs/") > 0);
    assert!(storage.state.lock().unwrap().seen.is_empty());
    assert!(!host.state.lock().unwrap().seen.is_empty());
}

#[test]
fn settings_that_are_wrong_are_named() {
    let (place, directory) = configured();
    write(directory.path(), "reg.example.com", "server = \"http://127.0.0.1:1\"\nmirrors = []\n");
    let told = place.refuse("reg.example.com/x:1");
    assert!(told.contains("reg.example.com/hosts.toml: ") && told.contains("unknown field `mirrors`"), "{told}");
    // Half a pair of a client certificate, in Docker's layout.
    let certs = directory.path().join("127.0.0.1:1");
    std::fs::create_dir(&certs).unwrap();
    std::fs::write(certs.join("client.cert"), "").unwrap();
    // The connection is what fails first where nobody listens, so somebody does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::fs::rename(&certs, directory.path().join(&address)).unwrap();
    write(directory.path(), "tls.example.com", &format!("server = \"https://{address}\"\n"));
    let told = place.refuse("tls.example.com/x:1");
    assert!(told.contains("missing key client.key for client certificate"), "{told}");
    let certs = directory.path().join(&address);
    std::fs::rename(certs.join("client.cert"), certs.join("client.key")).unwrap();
    let told = place.refuse("tls.example.com/x:1");
    assert!(told.contains("missing client certificate client.cert for key"), "{told}");
}

#[test]
fn settings_that_are_wrong_for_one_registry_do_not_keep_another_from_a_repair() {
    let image = made(&["one"], Pack::Gzip);
    let server = holding(&image, State::default());
    let (place, directory) = configured();
    for registry in ["first.example.com", "last.example.com"] {
        write(directory.path(), registry, &format!("server = \"http://{}\"\n", server.address));
        place.pull(&format!("{registry}/x:1")).unwrap();
    }
    write(directory.path(), "last.example.com", "mirrors = []\n");
    let found = place.store.get("first.example.com/x:1").unwrap();
    let may_replace: MayReplace = Arc::new(|| Ok(()));
    let (logins, sink) = (Keyring::default(), place.sink());
    let layer = place.block_on(place.store.refetch_layer(&found.diff_ids[0], &may_replace, &logins, &sink));
    assert_eq!(layer.unwrap(), "first.example.com/x");
    let config = place.root.path().join("blobs/sha256").join(found.id.trim_start_matches("sha256:"));
    std::fs::write(&config, "{}").unwrap();
    write(directory.path(), "first.example.com", "mirrors = []\n");
    write(directory.path(), "last.example.com", &format!("server = \"http://{}\"\n", server.address));
    let damaged = place.store.verify_documents(&found).unwrap();
    let documents = place.block_on(place.store.refetch_documents(&found, &damaged, &logins, &sink));
    assert_eq!((documents.unwrap(), damaged), ("last.example.com/x".to_owned(), vec![found.id.clone()]));
    assert!(place.store.verify_documents(&found).unwrap().is_empty());
}
