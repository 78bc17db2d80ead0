//! Tests of the archives that are made of directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::*;

/// Entries of a tar: path to kind, link and content.
fn entries(tar: &[u8]) -> BTreeMap<String, (u8, String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned()).unwrap_or_default();
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (path, (entry.header().entry_type().as_byte(), link, content))
    });
    entries.collect()
}

fn layer(upper: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    write_layer(upper, &mut tar).unwrap();
    tar
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn make_opaque(path: &Path) {
    setxattr(path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
}

#[test]
fn an_empty_layer_is_the_empty_tar() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(layer(dir.path()), [0; 1024]);
}

#[test]
fn a_layer_says_what_is_there_and_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("d")).unwrap();
    make_opaque(&at("d"));
    fs::write(at("d/file"), "content").unwrap();
    fs::hard_link(at("d/file"), at("d/second")).unwrap();
    whiteout(&at("d/gone"));
    symlink("../../etc/passwd", at("link")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 3)).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let tar = layer(dir.path());
    assert_eq!(tar, layer(dir.path()));
    let found = entries(&tar);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["d/", "d/.wh..wh..opq", "d/.wh.gone", "d/file", "d/second", "fifo", "link", "null"]);
    assert_eq!(found["d/file"], (b'0', String::new(), b"content".to_vec()));
    assert_eq!(found["d/second"], (b'1', "d/file".to_owned(), Vec::new()));
    assert_eq!(found["link"].1, "../../etc/passwd");
    assert_eq!((found["fifo"].0, found["null"].0, found["d/"].0), (b'6', b'3', b'5'));
}

#[test]
fn what_does_not_fit_a_header_goes_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let long = "n".repeat(200);
    let path = dir.path().join(&long);
    fs::write(&path, "x").unwrap();
    setxattr(&path, "user.note", b"a b\0", XattrFlags::empty()).unwrap();
    setxattr(&path, "trusted.note", b"this host's", XattrFlags::empty()).unwrap();
    std::os::unix::fs::chown(&path, Some(3_000_000_000), Some(7)).unwrap();
    symlink("t".repeat(300), dir.path().join("link")).unwrap();
    let tar = layer(dir.path());
    let mut archive = tar::Archive::new(tar.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_symlink() {
            assert_eq!(entry.link_name_bytes().unwrap().len(), 300);
            continue;
        }
        assert_eq!(&*entry.path_bytes(), long.as_bytes());
        let records = entry.pax_extensions().unwrap().unwrap();
        let records: BTreeMap<String, Vec<u8>> = records
            .map(|record| record.unwrap())
            .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
            .collect();
        assert_eq!(records["uid"], b"3000000000");
        assert_eq!(records["SCHILY.xattr.user.note"], b"a b\0");
        assert!(!records.keys().any(|key| key.contains("trusted")));
    }
}

#[test]
fn lengths_of_pax_records_count_themselves() {
    for length in 0..2000 {
        let mut record = Vec::new();
        writer::pax_record(&mut record, b"key", &vec![b'x'; length]);
        let text = String::from_utf8(record).unwrap();
        assert_eq!(text.split_once(' ').unwrap().0.parse::<usize>().unwrap(), text.len());
    }
}

#[test]
fn names_that_would_be_marks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".wh.x"), "").unwrap();
    let why = write_layer(dir.path(), io::sink()).unwrap_err().to_string();
    assert!(why.starts_with(".wh.x: a layer cannot hold"), "{why}");
    assert!(write_root(&[dir.path().to_owned()], io::sink()).is_ok());
}

#[test]
fn content_that_is_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("moved")).unwrap();
    setxattr(dir.path().join("moved"), "trusted.overlay.redirect", b"/from", XattrFlags::empty()).unwrap();
    let why = write_layer(dir.path(), io::sink()).unwrap_err().to_string();
    assert_eq!(why, "moved: trusted.overlay.redirect is set: its content is elsewhere");
}

#[test]
fn the_root_is_merged_as_overlayfs_merges_it() {
    let dir = tempfile::tempdir().unwrap();
    let [top, middle, low] = ["top", "middle", "low"].map(|name| dir.path().join(name));
    for path in ["top/both", "top/opaque", "top/dir-over-file", "middle/both", "low/both", "low/opaque", "low/gone"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    for (path, content) in [
        ("top/both/a", "top"),
        ("middle/both/a", "middle"),
        ("middle/both/b", "middle"),
        ("low/both/b", "low"),
        ("low/both/c", "low"),
        ("low/opaque/hidden", ""),
        ("top/opaque/shown", ""),
        ("low/gone/x", ""),
        ("middle/file-over-dir", "file"),
        ("low/dir-over-file", "file"),
    ] {
        fs::write(dir.path().join(path), content).unwrap();
    }
    fs::create_dir_all(low.join("file-over-dir/x")).unwrap();
    make_opaque(&top.join("opaque"));
    whiteout(&middle.join("gone"));
    whiteout(&top.join("both/c"));
    fs::set_permissions(low.join("both"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut tar = Vec::new();
    write_root(&[top, middle, low], &mut tar).unwrap();
    let found = entries(&tar);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["both/", "both/a", "both/b", "dir-over-file/", "file-over-dir", "opaque/", "opaque/shown"]);
    assert_eq!((found["both/a"].2.as_slice(), found["both/b"].2.as_slice()), (&b"top"[..], &b"middle"[..]));
}

#[test]
fn links_of_the_tree_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (top, low, outside) = (dir.path().join("top"), dir.path().join("low"), dir.path().join("outside"));
    for path in [&top, &low.join("d"), &outside] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, top.join("d")).unwrap();
    let mut tar = Vec::new();
    write_root(&[top, low], &mut tar).unwrap();
    assert_eq!(entries(&tar).keys().map(String::as_str).collect::<Vec<_>>(), ["d"]);
}

#[test]
fn a_tree_of_any_depth_is_walked_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut path = dir.path().to_owned();
    for _ in 0..DEPTH_MAX + 1 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    let why = write_layer(dir.path(), io::sink()).unwrap_err().to_string();
    assert!(why.ends_with("more than 1024 directories deep"), "{why}");
}
