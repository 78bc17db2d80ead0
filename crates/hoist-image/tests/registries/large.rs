//! Much of everything, and forms that are rare.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Answer, MEDIA_MANIFEST, Made, Pack, Place, Server, made, made_of};
use hoist_api::reference::Reference;

const TAGS: usize = 10_000;
const PAGE: usize = 1_000;

/// `image` under ten thousand tags, listed a page at a time; with `endless`, the last page leads to the first.
fn with_many_tags(image: &Made, endless: bool) -> Server {
    let manifest = image.manifest.clone();
    Server::with(image, move |asked| {
        if let Some(query) = asked.path.strip_prefix("/v2/x/tags/list") {
            let page = query.strip_prefix("?page=").and_then(|page| page.parse().ok()).unwrap_or(0_usize);
            let tags: Vec<String> = (page * PAGE..(page + 1) * PAGE).map(|number| format!("t{number}")).collect();
            let answer = Answer::ok(serde_json::json!({ "name": "x", "tags": tags }).to_string().as_bytes());
            let last = (page + 1) * PAGE >= TAGS;
            let next = if last { 0 } else { page + 1 };
            let link = format!("</v2/x/tags/list?page={next}>; rel=\"next\"");
            return Some(if last && !endless { answer } else { answer.header("Link", &link) });
        }
        asked
            .path
            .starts_with("/v2/x/manifests/t")
            .then(|| Answer::ok(&manifest).header("Content-Type", MEDIA_MANIFEST))
    })
}

fn pull_all(place: &Place, server: &Server) -> Result<(), hoist_image::Error> {
    let reference = Reference::parse(&format!("{}/x", server.address)).unwrap();
    place.block_on(place.store.pull(&reference, true, None, None, place.sink()))
}

#[test]
fn ten_thousand_tags_are_pulled_and_their_layer_once() {
    let image = made(&["one"], Pack::Gzip);
    let server = with_many_tags(&image, false);
    let place = Place::new();
    pull_all(&place, &server).unwrap();
    let all = place.store.list();
    assert_eq!((all.len(), all[0].repo_tags.len()), (1, TAGS));
    assert_eq!(server.requests("/blobs/").len(), 2);
    assert!(place.store.get(&format!("{}/x:t9999", server.address)).is_ok());
}

#[test]
fn a_list_of_tags_without_end_is_given_up() {
    let image = made(&["one"], Pack::Gzip);
    let server = with_many_tags(&image, true);
    let place = Place::new();
    let text = pull_all(&place, &server).unwrap_err().to_string();
    assert!(text.contains("the list of tags does not end"), "{text}");
    place.assert_empty();
}

/// A skippable frame of RFC 8878, section 3.1.2.
fn skippable(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&0x184d_2a50_u32.to_le_bytes(), &length.to_le_bytes(), content].concat()
}

#[test]
fn a_chunked_zstd_layer_is_a_layer_like_others() {
    // Frames that are one file each, and what says where they are in frames that decoders pass over, as zstd:chunked has it.
    let plain = made(&["one"], Pack::Plain);
    let tar = &plain.layers[0];
    let mut chunked = Vec::new();
    for part in tar.chunks(512) {
        chunked.extend(zstd::encode_all(part, 1).unwrap());
    }
    chunked.extend(skippable(&zstd::encode_all(&b"{\"version\":1,\"entries\":[]}"[..], 1).unwrap()));
    chunked.extend(skippable(&[7; 64]));
    let image = made_of(std::slice::from_ref(tar), vec![chunked]);
    let server = Server::with(&image, |_| None);
    let (place, name) = (Place::new(), format!("{}/x:1", server.address));
    place.pull(&name).unwrap();
    assert_eq!(place.read(&name, "etc/0"), "one");
    let mut again = Vec::new();
    place.store.write_layer(&place.store.get(&name).unwrap().diff_ids[0], &mut again).unwrap();
    assert_eq!(again, *tar);
}

#[test]
fn names_that_differ_in_case_only_are_two_files() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in [("etc/File", "upper"), ("etc/file", "lower"), ("ETC/file", "other")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let image = made_of(std::slice::from_ref(&tar), vec![tar.clone()]);
    let server = Server::with(&image, |_| None);
    let (place, name) = (Place::new(), format!("{}/x:1", server.address));
    place.pull(&name).unwrap();
    let read = |path| place.read(&name, path);
    assert_eq!([read("etc/File"), read("etc/file"), read("ETC/file")], ["upper", "lower", "other"]);
}

#[test]
fn a_server_that_lies_about_the_length_of_a_document_is_refused() {
    let image = made(&["one"], Pack::Gzip);
    for length in ["1", "100000000000", "-1", "many"] {
        let manifest = image.manifest.clone();
        let asked_times = std::sync::Arc::new(AtomicUsize::new(0));
        let count = asked_times.clone();
        let server = Server::with(&image, move |asked| {
            (asked.path == "/v2/x/manifests/1").then(|| {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = Answer { cut_after: Some(manifest.len() - 1), ..Answer::ok(&manifest) };
                answer.header("Content-Type", MEDIA_MANIFEST).header("Content-Length", length)
            })
        });
        let text = Place::new().refuse(&format!("{}/x:1", server.address));
        assert!(asked_times.load(Ordering::SeqCst) < 10, "{length}: {text}");
        assert!(!text.is_empty(), "{length}");
    }
}
