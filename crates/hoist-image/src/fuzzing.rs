//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

#![expect(clippy::expect_used, reason = "what fails here is to be found")]

use std::io::Read;
use std::sync::Arc;

use hoist_db::Db;
use hyper::StatusCode;

use crate::unpack::{self, Kind, TarStream, Target, Whiteouts};
use crate::{Config, ProgressSink, Store, Users, config, decompress, manifest, registry, signature};

/// Takes a fuzzer's bytes.
pub type Entry = fn(&[u8]);

pub const TARGETS: &[(&str, Entry)] = &[
    ("manifest", manifest),
    ("image_config", image_config),
    ("tar_stream", tar_stream),
    ("layer", layer),
    ("archive", archive),
    ("compressed", compressed),
    ("challenge", challenge),
    ("registry_answer", registry_answer),
    ("signature", signature),
    ("signature_policy", signature_policy),
];

/// More plain bytes than this are not read: a bomb is the guard's business, and that has a test of its own.
const PLAIN_MAX_BYTES: u64 = 64 << 20;

/// Manifests and indexes; the first byte says what the transport called them.
pub fn manifest(bytes: &[u8]) {
    let (kind, document) = bytes.split_first().unwrap_or((&0, &[]));
    let kinds = [
        "",
        manifest::MEDIA_OCI_MANIFEST,
        manifest::MEDIA_OCI_INDEX,
        manifest::MEDIA_DOCKER_MANIFEST,
        manifest::MEDIA_DOCKER_LIST,
    ];
    match manifest::parse(document, kinds[usize::from(*kind) % kinds.len()]) {
        Ok(manifest::Manifest::Index(manifests)) => {
            let _ = manifest::choose(&manifests, &crate::Platform::host());
            let _ = manifest::entries(document);
        }
        Ok(manifest::Manifest::Image(image)) => {
            let _ = image.check_is_image();
        }
        Err(_) => {}
    }
}

/// Config documents of images.
pub fn image_config(bytes: &[u8]) {
    let Ok(document) = config::parse(bytes) else { return };
    for step in &document.history {
        let _ = step.created.as_deref().and_then(config::unix_seconds);
    }
}

/// The headers of a tar: names, PAX records, sparse maps.
pub fn tar_stream(bytes: &[u8]) {
    let tar = with_checksums(bytes);
    let mut stream = TarStream::new(tar.as_slice());
    let mut payload = 0;
    while let Ok(Some(entry)) = stream.next_entry() {
        if let Some(sparse) = &entry.sparse {
            let data: u64 = sparse.segments.iter().map(|segment| segment.length).sum();
            assert!(data == entry.payload_bytes && data <= sparse.real_bytes, "a sparse map that does not add up");
        }
        assert!(matches!(entry.kind, Kind::File) || entry.payload_bytes == 0, "payload of what has none");
        // Every other one is skipped, as a caller may.
        if payload % 2 == 0 && std::io::copy(&mut stream, &mut std::io::sink()).is_err() {
            return;
        }
        payload += 1;
    }
}

/// A whole layer, unpacked into a directory and written again.
pub fn layer(bytes: &[u8]) {
    let tar = with_checksums(bytes);
    let home = tempfile::tempdir().expect("a scratch directory");
    let at = |name: &str| home.path().join(name);
    for directory in ["content", "trash"] {
        std::fs::create_dir(at(directory)).expect("a scratch directory");
    }
    let (content, trash, record) = (at("content"), at("trash"), at("record"));
    let unpacked = unpack::unpack(
        &mut tar.as_slice(),
        Target { content: &content, trash: &trash, record: &record },
        Whiteouts::Overlay,
    );
    assert!(
        std::fs::read_dir(home.path()).expect("the scratch directory").count() <= 3,
        "something came out of the layer"
    );
    if unpacked.is_ok() {
        let mut again = Vec::new();
        unpack::replay(&record, &content, &mut again).expect("a layer can be written again");
        assert!(again == tar, "a layer is not written as it came");
    }
}

/// `docker load`, of any kind of archive.
pub fn archive(bytes: &[u8]) {
    thread_local! {
        // One for all inputs; of a thread, and not for ever, so that its directory goes with it.
        static STORE: (Store, tempfile::TempDir) = {
            let home = tempfile::tempdir().expect("a scratch directory");
            let db = Db::in_memory().expect("a database");
            (Store::open(&home.path().join("images"), db, Config::default()).expect("a store"), home)
        };
    }
    STORE.with(|(store, _)| load_and_remove(store, bytes));
}

fn load_and_remove(store: &Store, bytes: &[u8]) {
    let tar = with_checksums(bytes);
    let silent: ProgressSink = Arc::new(|_| {});
    let _ = store.load(&mut tar.as_slice(), &[], &silent);
    // Children first: an image stays while there are others that are made of it.
    for _ in 0..store.list().len() {
        for image in store.list() {
            store.history(&image).expect("the history of an image can be told");
            let _ = store.remove(&image.id, true, true, &|_| Users::default());
        }
    }
    assert!(store.list().is_empty(), "an image cannot be removed");
}

/// Streams that may be compressed.
pub fn compressed(bytes: &[u8]) {
    let Ok((format, sniffed)) = decompress::sniff(bytes) else { return };
    let Ok(plain) = decompress::open(format, sniffed) else { return };
    let _ = std::io::copy(&mut plain.take(PLAIN_MAX_BYTES), &mut std::io::sink());
}

/// `WWW-Authenticate` headers, one a line, and the URLs that they name.
pub fn challenge(bytes: &[u8]) {
    registry::fuzzing::challenge(&String::from_utf8_lossy(bytes));
}

/// Bodies of errors; the first two bytes are the status.
pub fn registry_answer(bytes: &[u8]) {
    let Some((status, body)) = bytes.split_first_chunk::<2>() else { return };
    let status = StatusCode::from_u16(u16::from_be_bytes(*status) % 1000).unwrap_or(StatusCode::NOT_FOUND);
    registry::fuzzing::answer(status, body);
}

/// What lies beside an image as its signature: a document with its annotations, a bundle, or a log's entry; the first byte
/// says which.
pub fn signature(bytes: &[u8]) {
    let (kind, document) = bytes.split_first().unwrap_or((&0, &[]));
    signature::read_anything(kind % 2 == 0, document);
}

/// Policies. Those that name files are the administrator's own.
pub fn signature_policy(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("Path") {
        return;
    }
    let Ok(policy) = signature::policy::Policy::parse(bytes, std::path::Path::new("/policy.json")) else { return };
    let image = hoist_api::reference::Reference::parse("r.example.com:5000/a/b:1").expect("a reference");
    let _ = policy.requirements(&image);
}

/// The bytes with right checksums wherever a tar reader would look for a header: a fuzzer finds no sums by itself.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<512>()) {
        if block.iter().all(|&byte| byte == 0) {
            break;
        }
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let has_payload = matches!(block[156], 0 | b'0' | b'7' | b'S' | b'x' | b'X' | b'g' | b'L' | b'K');
        let digits =
            block[124..136].iter().skip_while(|byte| **byte == b' ').take_while(|byte| (b'0'..=b'7').contains(byte));
        let size = digits.fold(0_usize, |size, digit| size.saturating_mul(8) + usize::from(digit - b'0'));
        let payload = if has_payload { size } else { 0 };
        let Some(next) = payload.checked_next_multiple_of(512).and_then(|payload| payload.checked_add(at + 512)) else {
            break;
        };
        at = next;
    }
    tar
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
