//! Pulls that want the same layers at the same time, and pulls that are taken up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Answer, Made, Pack, Place, Server, digest, made};
use hoist_api::reference::Reference;
use hoist_image::{Config, Keyring, MayReplace};

const STALL: Duration = Duration::from_millis(800);
const BEFORE_STALL: usize = 150_000;

fn large() -> Made {
    made(&["x".repeat(300_000).as_str()], Pack::Gzip)
}

/// Serves the image, stalling in the middle of its last layer when that is asked for the first time.
fn stalling(image: &Made, before_stall: usize) -> Server {
    let layer = image.layers[image.layers.len() - 1].clone();
    let (path, times) = (format!("/v2/x/blobs/{}", digest(&layer)), AtomicUsize::new(0));
    Server::with(image, move |asked| {
        if asked.path != path {
            return None;
        }
        let range = asked.headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let start: usize = range.unwrap_or(0);
        let mut answer = Answer::ok(&layer[start..]);
        answer.stall = (times.fetch_add(1, Ordering::SeqCst) == 0).then_some((before_stall, STALL));
        if start > 0 {
            answer.status = 206;
            answer = answer.header("Content-Range", &format!("bytes {start}-{}/{}", layer.len() - 1, layer.len()));
        }
        Some(answer)
    })
}

fn name(server: &Server) -> Reference {
    Reference::parse(&format!("{}/x:1", server.address)).unwrap()
}

/// A pull that its client leaves while the registry stalls.
fn break_off(place: &Place, name: &Reference) {
    place.block_on(async {
        let pull = place.store.pull(name, false, None, None, place.sink());
        assert!(tokio::time::timeout(STALL / 2, pull).await.is_err());
    });
}

#[test]
fn two_pulls_share_one_download_and_both_see_it() {
    let image = large();
    let server = stalling(&image, BEFORE_STALL);
    let (place, name) = (Place::new(), name(&server));
    let other = Place::new();
    place.block_on(async {
        let first = place.store.pull(&name, false, None, None, place.sink());
        let second = async {
            tokio::time::sleep(STALL / 4).await;
            place.store.pull(&name, false, None, None, other.sink()).await
        };
        let (first, second) = tokio::join!(first, second);
        first.and(second).unwrap();
    });
    assert_eq!(server.requests(&digest(&image.layers[0])).len(), 1);
    for statuses in [place.statuses(), other.statuses()] {
        let words = ["Pulling fs layer", "Download complete", "Pull complete", "Downloaded newer image"];
        for word in words {
            assert!(statuses.iter().any(|status| status.contains(word)), "{word}: {statuses:?}");
        }
    }
    let said = other.said.lock().unwrap();
    assert!(said.iter().any(|progress| progress.detail.is_some_and(|(bytes, _)| bytes > 0)));
}

#[test]
fn cancelling_one_of_two_pulls_leaves_the_other_alone() {
    let image = large();
    let server = stalling(&image, BEFORE_STALL);
    let (place, name) = (Place::new(), name(&server));
    place.block_on(async {
        let first = place.store.pull(&name, false, None, None, place.sink());
        let second = async {
            tokio::time::sleep(STALL / 8).await;
            place.store.pull(&name, false, None, None, place.sink()).await
        };
        let (first, second) = tokio::join!(tokio::time::timeout(STALL / 2, first), second);
        assert!(first.is_err());
        second.unwrap();
    });
    assert_eq!(server.requests(&digest(&image.layers[0])).len(), 1);
    assert_eq!(place.read(&name.to_string(), "etc/0").len(), 300_000);
}

#[test]
fn an_interrupted_pull_is_taken_up_where_it_stopped() {
    let image = large();
    let server = stalling(&image, BEFORE_STALL);
    let (place, name) = (Place::new(), name(&server));
    break_off(&place, &name);
    assert!(place.store.list().is_empty());
    place.pull(&name.to_string()).unwrap();
    assert_eq!(place.read(&name.to_string(), "etc/0").len(), 300_000);
    let asked = server.requests(&digest(&image.layers[0]));
    assert_eq!(asked.len(), 2);
    let range = asked[1].headers["range"].strip_prefix("bytes=").unwrap().trim_end_matches('-');
    let start: usize = range.parse().unwrap();
    assert!(start > 0 && start <= BEFORE_STALL, "{range}");
    place.store.remove(&name.to_string(), true, false, &|_| Default::default()).unwrap();
    place.assert_empty();
}

#[test]
fn layers_that_came_before_a_pull_broke_are_not_fetched_again() {
    let image = made(&["one", "two"], Pack::Gzip);
    let (last, times) = (format!("/v2/x/blobs/{}", digest(&image.layers[1])), AtomicUsize::new(0));
    let server = Server::with(&image, move |asked| {
        let fails = asked.path == last && times.fetch_add(1, Ordering::SeqCst) == 0;
        fails.then(|| {
            std::thread::sleep(STALL / 2);
            Answer::status(503, "busy")
        })
    });
    let place = Place::with(Config { max_download_attempts: Some(1), ..Config::default() });
    let name = name(&server).to_string();
    assert!(place.pull(&name).unwrap_err().to_string().contains("503"));
    place.pull(&name).unwrap();
    assert_eq!(server.requests(&digest(&image.layers[0])).len(), 1);
    assert_eq!(server.requests(&digest(&image.layers[1])).len(), 2);
    assert_eq!(place.read(&name, "etc/0"), "one");
    // Without the image nothing stays.
    place.store.remove(&name, true, false, &|_| Default::default()).unwrap();
    place.assert_empty();
}

#[test]
fn only_so_many_layers_come_at_a_time() {
    let image = made(&["one", "two", "three", "four"], Pack::Gzip);
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let layers: Vec<(String, Vec<u8>)> = image.layers.iter().map(|l| (digest(l), l.clone())).collect();
    let server = Server::with(&image, move |asked| {
        let (_, layer) = layers.iter().find(|(digest, _)| asked.path.ends_with(digest))?;
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        NOW.fetch_sub(1, Ordering::SeqCst);
        Some(Answer::ok(layer))
    });
    let place = Place::with(Config { max_concurrent_downloads: Some(2), ..Config::default() });
    place.pull(&name(&server).to_string()).unwrap();
    assert_eq!(MOST.load(Ordering::SeqCst), 2);
}

#[test]
fn a_pull_that_died_with_its_engine_is_taken_up_by_the_next() {
    let image = made(&["whole before", "x".repeat(300_000).as_str()], Pack::Gzip);
    let half = image.layers[1].len() / 2;
    let server = stalling(&image, half);
    let name = name(&server);
    let first = Place::new();
    break_off(&first, &name);
    // What a killed engine leaves is what is on the disk now.
    let next = first.killed_and_opened_again();
    next.pull(&name.to_string()).unwrap();
    assert_eq!(
        (next.read(&name.to_string(), "etc/0"), server.requests(&digest(&image.layers[0])).len()),
        ("whole before".into(), 1)
    );
    assert_eq!(next.read(&name.to_string(), "etc/1").len(), 300_000);
    let asked = server.requests(&digest(&image.layers[1]));
    let start: usize = asked[1].headers["range"].trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    assert!(asked.len() == 2 && start > 0 && start <= half, "{start}");
    // What the first brought in can be repaired too.
    let found = next.store.get(&name.to_string()).unwrap();
    let damaged = next.store.layer_path(&found.diff_ids[0]).join("etc/0");
    std::fs::write(&damaged, "no more as it was").unwrap();
    let may_replace: MayReplace = Arc::new(|| Ok(()));
    let (logins, sink) = (Keyring::default(), next.sink());
    let repaired = next.block_on(next.store.refetch_layer(&found.diff_ids[0], &may_replace, &logins, &sink));
    assert_eq!((repaired.unwrap(), std::fs::read_to_string(&damaged).unwrap()), (name.name(), "whole before".into()));
    next.store.remove(&name.to_string(), true, false, &|_| Default::default()).unwrap();
    next.assert_empty();
}

#[test]
fn what_a_killed_engine_left_of_a_layer_can_be_given_up() {
    let image = large();
    let server = stalling(&image, BEFORE_STALL);
    let name = name(&server);
    let first = Place::new();
    break_off(&first, &name);
    let next = first.killed_and_opened_again();
    assert!(next.store.disk_bytes().unwrap().in_progress >= BEFORE_STALL as u64 / 2);
    next.store.forget_interrupted();
    next.assert_empty();
}
