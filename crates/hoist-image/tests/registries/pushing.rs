//! Pushing: what is sent, what is not, and what happens when a registry or a line breaks.

use hoist_api::reference::Reference;
use hoist_image::{Credentials, Error};

use crate::model::{Model, State};
use crate::support::{Made, Pack, Place, digest, made, manifest_of};

impl Place {
    pub(crate) fn push(&self, name: &str) -> Result<(), Error> {
        self.push_as(name, None)
    }

    pub(crate) fn push_as(&self, name: &str, login: Option<&Credentials>) -> Result<(), Error> {
        self.said.lock().unwrap().clear();
        let reference = Reference::parse(name).unwrap();
        self.block_on(self.store.push(&reference, login, self.sink()))
    }

    pub(crate) fn tag(&self, image: &str, name: &str) {
        self.store.tag(image, &Reference::parse(name).unwrap()).unwrap();
    }
}

/// A model that holds an image as `x:1`.
pub(crate) fn holding(image: &Made, state: State) -> Model {
    let model = Model::start(state);
    let mut held = model.state.lock().unwrap();
    for blob in image.layers.iter().chain([&image.config]) {
        held.blobs.insert(("x".to_owned(), digest(blob)), blob.clone());
    }
    let value: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let media_type = value["mediaType"].as_str().unwrap().to_owned();
    for name in ["1".to_owned(), digest(&image.manifest)] {
        held.manifests.insert(("x".to_owned(), name), (media_type.clone(), image.manifest.clone()));
    }
    drop(held);
    model
}

fn of_one_large_layer() -> Made {
    // Nothing that compresses: what is sent is as long as what there is.
    let mut state = 1_u32;
    let noise = (0..3_000_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (state >> 24) as u8 % 90)
    });
    made(&[&noise.collect::<String>()], Pack::Plain)
}

/// A place with the image in it as `name`, that knows nothing of where it is from.
pub(crate) fn installed(image: &Made, name: &str) -> Place {
    let place = Place::new();
    install(&place, image, name);
    place
}

pub(crate) fn install(place: &Place, image: &Made, name: &str) {
    let layers: Vec<&[u8]> = image.layers.iter().map(Vec::as_slice).collect();
    place.store.install(&Reference::parse(name).unwrap(), &image.config, &layers).unwrap();
}

#[test]
fn a_pulled_image_is_pushed_with_the_very_same_manifest_and_blobs() {
    for pack in [Pack::Gzip, Pack::Zstd, Pack::Plain] {
        let image = made(&["one", "two"], pack);
        let (source, target) = (holding(&image, State::default()), Model::start(State::default()));
        let place = Place::new();
        place.pull(&source.name("x:1")).unwrap();
        place.tag(&source.name("x:1"), &target.name("y/z:2"));
        place.push(&target.name("y/z:2")).unwrap();
        assert!(target.manifest("y/z", "2") == image.manifest);
        let state = target.state.lock().unwrap();
        for layer in &image.layers {
            assert!(state.blobs[&("y/z".to_owned(), digest(layer))] == *layer);
        }
        drop(state);
        let names = &place.store.get(&target.name("y/z:2")).unwrap().repo_digests;
        assert!(names.contains(&target.name(&format!("y/z@{}", digest(&image.manifest)))), "{names:?}");
        // And again: everything is there.
        target.forget();
        place.push(&target.name("y/z:2")).unwrap();
        assert_eq!((target.count("POST", ""), target.count("PATCH", "")), (0, 0));
        assert!(place.statuses().iter().filter(|status| status.ends_with(": Layer already exists")).count() == 2);
    }
}

#[test]
fn what_a_manifest_says_besides_stays_when_its_layers_cannot_be_had_as_they_were() {
    let mut image = made(&["one"], Pack::Zstd);
    let mut manifest = manifest_of(&image.config, &image.layers);
    manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    manifest["annotations"] = serde_json::json!({ "kept": "yes" });
    manifest["artifactType"] = "application/vnd.example".into();
    image.manifest = manifest.to_string().into_bytes();
    let (source, target) = (holding(&image, State::default()), Model::start(State::default()));
    let place = Place::new();
    place.pull(&source.name("x:1")).unwrap();
    source.state.lock().unwrap().blobs.clear();
    place.tag(&source.name("x:1"), &target.name("x:1"));
    place.push(&target.name("x:1")).unwrap();
    let pushed: serde_json::Value = serde_json::from_slice(&target.manifest("x", "1")).unwrap();
    assert_eq!(
        (&pushed["annotations"]["kept"], &pushed["artifactType"]),
        (&"yes".into(), &"application/vnd.example".into())
    );
    let pulled = Place::new();
    pulled.pull(&target.name("x:1")).unwrap();
    assert_eq!(pulled.store.list()[0].id, digest(&image.config));
}

#[test]
fn an_image_from_here_is_compressed_the_same_each_time_and_mounted_where_it_can_be() {
    let image = made(&["one", "two"], Pack::Plain);
    let target = Model::start(State { tokens: true, ..State::default() });
    let place = installed(&image, &target.name("a:1"));
    place.push(&target.name("a:1")).unwrap();
    assert_eq!(target.count("PATCH", "/v2/a/"), 2);
    place.tag(&target.name("a:1"), &target.name("b/c:1"));
    place.push(&target.name("b/c:1")).unwrap();
    assert_eq!(target.count("PATCH", "/v2/b/c/"), 0, "{:?}", place.statuses());
    assert!(place.statuses().iter().filter(|status| status.ends_with(": Mounted from a")).count() == 2);
    assert!(target.manifest("a", "1") == target.manifest("b/c", "1"));
    // Another engine, another day: the same bytes.
    let elsewhere = Model::start(State::default());
    let other = installed(&image, &elsewhere.name("a:1"));
    other.push(&elsewhere.name("a:1")).unwrap();
    assert!(elsewhere.manifest("a", "1") == target.manifest("a", "1"));
    let pulled = Place::new();
    pulled.pull(&elsewhere.name("a:1")).unwrap();
    assert_eq!(pulled.read(&elsewhere.name("a:1"), "etc/1"), "two");
    assert_eq!(pulled.store.list()[0].id, digest(&image.config));
}

#[test]
fn a_broken_upload_goes_on_where_it_broke_off() {
    let image = of_one_large_layer();
    let target = Model::start(State { cut_after: Some(1_500_000), ..State::default() });
    let place = installed(&image, &target.name("a:1"));
    place.push(&target.name("a:1")).unwrap();
    assert_eq!((target.count("POST", "uploads"), target.count("PATCH", "")), (2, 1), "one upload, and the config's");
    assert_eq!(target.count("GET", "uploads"), 1);
    let pulled = Place::new();
    pulled.pull(&target.name("a:1")).unwrap();
    assert_eq!(pulled.store.list()[0].id, digest(&image.config));
    // One that the registry knows nothing of any more is begun anew.
    let target = Model::start(State { cut_after: Some(1_500_000), forgetful: true, ..State::default() });
    place.tag(&place.store.list()[0].id, &target.name("a:1"));
    place.push(&target.name("a:1")).unwrap();
    assert_eq!(target.count("POST", "uploads"), 3);
}

#[test]
fn a_busy_registry_is_waited_for_and_that_is_told() {
    let image = made(&["one"], Pack::Gzip);
    let target = Model::start(State { busy: Some((2, "0".to_owned())), ..State::default() });
    let place = installed(&image, &target.name("a:1"));
    // The ping is not tried again, and needs no success.
    place.push(&target.name("a:1")).unwrap();
    let told = place.statuses().into_iter().find(|status| status.contains("limits the rate of requests")).unwrap();
    assert!(told.contains("toomanyrequests: you have reached your pull rate limit"), "{told}");
    assert!(told.ends_with("retrying in 1 second"), "{told}");
    target.state.lock().unwrap().busy = Some((9, "100000".to_owned()));
    let refused = place.push(&target.name("a:1")).unwrap_err().to_string();
    assert_eq!(refused, "toomanyrequests: too many requests");
}

#[test]
fn refusals_are_dockers() {
    let image = made(&["one"], Pack::Gzip);
    let target = Model::start(State { read_only: true, ..State::default() });
    let place = installed(&image, &target.name("a:1"));
    let refused = |name: &str| place.push(&target.name(name)).unwrap_err().to_string();
    assert_eq!(refused("a:1"), "denied: requested access to the resource is denied");
    assert_eq!(refused("a:2"), format!("tag does not exist: {}", target.name("a:2")));
    assert_eq!(refused("b"), format!("An image does not exist locally with the tag: {}", target.name("b")));
    assert_eq!(refused(&format!("a@{}", digest(b"x"))), "cannot push a digest reference");
    assert_eq!(place.statuses(), [format!("The push refers to repository [{}]", target.name("a"))]);
    place.tag(&target.name("a:1"), "127.0.0.1:1/a:1");
    assert!(place.push("127.0.0.1:1/a:1").unwrap_err().to_string().ends_with("connect: connection refused"));
}

#[test]
fn a_login_is_tried_at_the_registry_and_may_give_an_identity_token() {
    let login = |password: &str, identity_token: &str| Credentials {
        username: "u".to_owned(),
        password: password.to_owned(),
        identity_token: identity_token.to_owned(),
        ..Credentials::default()
    };
    let place = Place::new();
    let open = Model::start(State::default());
    assert_eq!(place.block_on(place.store.login(&open.address, &login("p", ""))).unwrap(), "");
    let target = Model::start(State { tokens: true, private: true, ..State::default() });
    let url = format!("http://{}/v2/", target.address);
    assert_eq!(place.block_on(place.store.login(&url, &login("p", ""))).unwrap(), "known");
    assert_eq!(place.block_on(place.store.login(&target.address, &login("", "known"))).unwrap(), "known");
    let refused = place.block_on(place.store.login(&target.address, &login("wrong", ""))).unwrap_err();
    assert!(matches!(refused, Error::Unauthorized(_)), "{refused:?}");
    assert_eq!(refused.to_string(), format!("Get \"{url}\": unauthorized: incorrect username or password"));
    let nobody = place.block_on(place.store.login("127.0.0.1:1", &login("p", ""))).unwrap_err().to_string();
    assert!(nobody.ends_with("dial tcp 127.0.0.1:1: connect: connection refused"), "{nobody}");
}

#[test]
fn a_private_repository_takes_a_push_with_a_login_only() {
    let image = made(&["one"], Pack::Plain);
    let target = Model::start(State { tokens: true, private: true, ..State::default() });
    let place = installed(&image, &target.name("a:1"));
    let refused = place.push(&target.name("a:1")).unwrap_err().to_string();
    assert!(refused.ends_with("unauthorized: incorrect username or password"), "{refused}");
    let tries = target.count("GET", "/token");
    assert!(tries <= 3, "a wrong login is tried {tries} times");
    let login = Credentials { username: "u".into(), password: "p".into(), ..Credentials::default() };
    place.push_as(&target.name("a:1"), Some(&login)).unwrap();
    let reference = Reference::parse(&target.name("a:1")).unwrap();
    let told = place.block_on(place.store.distribution(&reference, Some(&login))).unwrap();
    assert_eq!(told.digest, digest(&target.manifest("a", "1")));
    assert_eq!(serde_json::json!(told.platforms), serde_json::json!([{ "architecture": "amd64", "os": "linux" }]));
}

#[test]
fn all_tags_go_with_the_repository() {
    let (one, two) = (made(&["one"], Pack::Plain), made(&["two"], Pack::Plain));
    let target = Model::start(State::default());
    let place = installed(&one, &target.name("a:1"));
    place.store.install(&Reference::parse(&target.name("a:2")).unwrap(), &two.config, &[&two.layers[0]]).unwrap();
    place.tag(&target.name("a:1"), &target.name("a:latest"));
    place.push(&target.name("a")).unwrap();
    assert!(target.manifest("a", "1") == target.manifest("a", "latest"));
    assert!(target.manifest("a", "1") != target.manifest("a", "2"));
    let pushed: Vec<_> = place.said.lock().unwrap().iter().filter_map(|p| p.pushed.clone()).collect();
    assert_eq!(pushed.iter().map(|p| p.tag.as_str()).collect::<Vec<_>>(), ["1", "2", "latest"]);
    assert_eq!(pushed[0].digest, digest(&target.manifest("a", "1")));
}
