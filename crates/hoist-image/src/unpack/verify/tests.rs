//! Damage of every kind, and that it is named.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::super::tests::{Place, Tar, is_root};
use super::*;

impl Place {
    fn digest(&self) -> String {
        crate::digest::of_bytes(&self.replay().unwrap())
    }

    fn damage(&self, diff_id: &str) -> Vec<(String, String)> {
        let found = verify(&self.record(), &self.layer(""), diff_id).unwrap();
        found.into_iter().map(|damage| (damage.path, damage.what)).collect()
    }
}

fn sample() -> Tar {
    Tar::default()
        .pax(&[("SCHILY.xattr.user.x", b"1")])
        .directory("d/")
        .file("d/f", "content")
        .file("d/empty", "")
        .hardlink("d/h", "d/f")
        .symlink("l", "d/f")
        .entry(b'6', "fifo", "", b"")
        .file("implied/x", "x")
        .file("d/.wh.gone", "")
        .file("implied/.wh..wh..opq", "")
}

/// A layer as it came, its digest, and what is found after `harm`.
fn after(harm: impl FnOnce(&Place)) -> Vec<(String, String)> {
    let place = Place::new();
    place.unpack(&sample()).unwrap();
    let digest = place.digest();
    assert_eq!(place.damage(&digest), [], "a layer as it came");
    harm(&place);
    place.damage(&digest)
}

fn told(path: &str, what: &str) -> Vec<(String, String)> {
    vec![(path.to_owned(), what.to_owned())]
}

/// Keeps the modification time, as a failing disk would.
fn quietly(path: &Path, harm: impl FnOnce()) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    harm();
    let time = sys::Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = sys::Timestamps { last_access: time, last_modification: time };
    sys::utimensat(sys::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn each_kind_of_damage_is_found_and_named() {
    if !is_root() {
        return;
    }
    let other_bytes =
        after(|place| quietly(&place.layer("d/f"), || std::fs::write(place.layer("d/f"), "CONTENT").unwrap()));
    assert_eq!(other_bytes, told("d/f", "has other bytes"));
    let shorter = after(|place| quietly(&place.layer("d/f"), || std::fs::write(place.layer("d/f"), "con").unwrap()));
    assert_eq!(shorter, told("d/f", "has 3 bytes instead of 7"));
    let gone = after(|place| quietly(&place.layer("d"), || std::fs::remove_file(place.layer("d/empty")).unwrap()));
    assert_eq!(gone, told("d/empty", "is missing"));
    let mode = |place: &Place| std::fs::set_permissions(place.layer("d"), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(after(mode), told("d", "has mode 0777 instead of 0644"));
    let owner = |place: &Place| std::os::unix::fs::lchown(place.layer("l"), Some(7), None).unwrap();
    assert_eq!(after(owner), told("l", "belongs to 7:0 instead of 0:0"));
    let elsewhere = after(|place| {
        quietly(&place.layer("l"), || {
            std::fs::remove_file(place.layer("l")).unwrap();
            symlink("/etc/passwd", place.layer("l")).unwrap();
        });
    });
    assert_eq!(elsewhere, told("l", "leads elsewhere"));
    let attribute = |place: &Place| sys::removexattr(place.layer("d"), "user.x").unwrap();
    assert_eq!(after(attribute), told("d", "has another attribute user.x"));
    let whiteout = |place: &Place| quietly(&place.layer("d"), || std::fs::remove_file(place.layer("d/gone")).unwrap());
    assert_eq!(after(whiteout), told("d/.wh.gone", "hides nothing any more"));
    let opaque = |place: &Place| sys::removexattr(place.layer("implied"), "trusted.overlay.opaque").unwrap();
    assert_eq!(after(opaque), told("implied/.wh..wh..opq", "hides nothing any more"));
    let unlinked = after(|place| {
        quietly(&place.layer("d"), || {
            std::fs::remove_file(place.layer("d/h")).unwrap();
            std::fs::write(place.layer("d/h"), "content").unwrap();
        });
    });
    assert_eq!(unlinked, told("d/h", "is not the file d/f"));
    let stray =
        after(|place| quietly(&place.layer("implied"), || std::fs::write(place.layer("implied/y"), "").unwrap()));
    assert_eq!(stray, told("implied/y", "does not belong to the layer"));
}

#[test]
fn a_damaged_record_is_damage() {
    if !is_root() {
        return;
    }
    let truncated = after(|place| {
        let bytes = std::fs::read(place.record()).unwrap();
        std::fs::write(place.record(), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(truncated[0].1.starts_with("the layer's record cannot be read"), "{truncated:?}");
    let place = Place::new();
    place.unpack(&sample()).unwrap();
    let wrong = place.damage(&crate::digest::of_bytes(b"another layer"));
    assert_eq!(wrong, told("", "the layer's record does not give the layer's digest"));
}

#[test]
fn a_layer_that_replaces_its_own_files_is_held_against_the_last_of_each_name() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::default()
        .directory("d/")
        .file("d/below", "lost")
        .file("f", "first")
        .file("f", "second")
        .file("d", "a file now")
        .directory("e/")
        .tweak(b'5', "e/", |block| block[100..108].copy_from_slice(b"0000700\0"));
    place.unpack(&tar).unwrap();
    let digest = place.digest();
    assert_eq!(place.damage(&digest), []);
    quietly(&place.layer("f"), || std::fs::write(place.layer("f"), "SECOND").unwrap());
    assert_eq!(place.damage(&digest), told("f", "has other bytes"));
}
