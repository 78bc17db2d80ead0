//! Layers good and evil. Most of these make devices, owners and trusted attributes, so they want root.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A place with a layer's directory, a trash, and a sentinel outside of both.
pub(super) struct Place {
    directory: TempDir,
}

impl Place {
    pub(super) fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        for name in ["layer", "trash"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join("sentinel"), "untouched").unwrap();
        Place { directory }
    }

    pub(super) fn layer(&self, path: &str) -> PathBuf {
        self.directory.path().join("layer").join(path)
    }

    pub(super) fn unpack(&self, tar: &Tar) -> io::Result<u64> {
        let bytes = [tar.0.as_slice(), &[0; 1024]].concat();
        let done = unpack_at(&bytes, self.directory.path());
        let kept = std::fs::read_to_string(self.directory.path().join("sentinel"));
        assert_eq!(kept.unwrap(), "untouched");
        assert!(std::fs::read_dir(self.directory.path()).unwrap().count() <= 4, "something came out of the layer");
        done
    }

    pub(super) fn record(&self) -> PathBuf {
        self.directory.path().join("record")
    }

    /// Writes the layer's tar again.
    pub(super) fn replay(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        replay(&self.directory.path().join("record"), &self.layer(""), &mut out).map(|()| out)
    }

    fn refuse(&self, tar: &Tar) -> String {
        self.unpack(tar).unwrap_err().to_string()
    }
}

fn unpack_at(mut tar: &[u8], directory: &std::path::Path) -> io::Result<u64> {
    let (content, trash, record) = (directory.join("layer"), directory.join("trash"), directory.join("record"));
    let _ = std::fs::remove_file(&record);
    unpack(&mut tar, Target { content: &content, trash: &trash, record: &record }, Whiteouts::Overlay)
}

/// A tar written by hand, since a proper writer refuses what a test of evil needs.
#[derive(Clone, Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn entry(mut self, kind: u8, path: &str, link: &str, data: &[u8]) -> Tar {
        self.header(kind, path, link, data.len(), |_| {});
        self.data(data);
        self
    }

    pub(super) fn file(self, path: &str, data: &str) -> Tar {
        self.entry(b'0', path, "", data.as_bytes())
    }

    pub(super) fn directory(self, path: &str) -> Tar {
        self.entry(b'5', path, "", b"")
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(b'2', path, target, b"")
    }

    pub(super) fn hardlink(self, path: &str, target: &str) -> Tar {
        self.entry(b'1', path, target, b"")
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|n| n.to_string().len() + rest == *n).unwrap();
            data.extend(format!("{length} {key}=").bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.entry(b'x', "pax", "", &data)
    }

    pub(super) fn tweak(mut self, kind: u8, path: &str, change: impl FnOnce(&mut [u8; 512])) -> Tar {
        self.header(kind, path, "", 0, change);
        self
    }

    fn header(&mut self, kind: u8, path: &str, link: &str, size: usize, change: impl FnOnce(&mut [u8; 512])) {
        let mut block = [0; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000001750\0");
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut block);
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
    }

    fn data(&mut self, data: &[u8]) {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }
}

pub(super) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root to make owners, devices and trusted attributes");
    }
    root
}

fn xattr(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn everything_an_entry_says_is_on_disk() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::default()
        .pax(&[("mtime", b"1000.000000007"), ("uid", b"3000000"), ("SCHILY.xattr.user.x", b"a\nb\0")])
        .directory("d/")
        .pax(&[
            ("mtime", b"999.5"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ])
        .tweak(b'0', "d/suid", |block| block[100..108].copy_from_slice(b"0006755\0"))
        .symlink("d/link", "/anywhere/at/all")
        .hardlink("hard", "d/suid")
        .tweak(b'3', "null", |block| {
            block[329..337].copy_from_slice(b"0000001\0");
            block[337..345].copy_from_slice(b"0000003\0");
        })
        .entry(b'6', "pipe", "", b"")
        .file("implied/by/name", "12345");
    assert_eq!(place.unpack(&tar).unwrap(), 5 + "/anywhere/at/all".len() as u64);
    let of = |path: &str| std::fs::symlink_metadata(place.layer(path)).unwrap();
    assert_eq!((of("d").mtime(), of("d").mtime_nsec(), of("d").uid()), (1000, 7, 3_000_000));
    assert_eq!(xattr(&place.layer("d"), "user.x").unwrap(), b"a\nb\0");
    assert_eq!((of("d/suid").mode() & 0o7777, of("d/suid").mtime_nsec()), (0o6755, 500_000_000));
    assert!(xattr(&place.layer("d/suid"), "security.capability").is_some());
    assert_eq!(of("hard").ino(), of("d/suid").ino());
    assert_eq!(std::fs::read_link(place.layer("d/link")).unwrap(), PathBuf::from("/anywhere/at/all"));
    assert_eq!(of("d/link").mtime(), 1000);
    assert!(of("null").file_type().is_char_device() && of("null").rdev() == rustix::fs::makedev(1, 3));
    assert!(of("pipe").file_type().is_fifo());
    assert_eq!(of("implied/by").mode() & 0o7777, 0o755);
}

#[test]
fn whiteouts_take_overlay_form() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::default()
        .file("d/.wh.gone", "")
        .file("o/.wh..wh..opq", "")
        .file("o/kept", "")
        .file(".wh..wh.plnk", "")
        // Gone and made anew in one layer, in either order.
        .file(".wh.anew", "")
        .file("anew/x", "")
        .directory("first")
        .file(".wh.first", "")
        .file("plain", "x")
        .file(".wh.plain", "");
    place.unpack(&tar).unwrap();
    let gone = std::fs::symlink_metadata(place.layer("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for opaque in ["o", "anew", "first"] {
        assert_eq!(xattr(&place.layer(opaque), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]), "{opaque}");
    }
    assert_eq!(std::fs::read_to_string(place.layer("plain")).unwrap(), "x");
    assert!(!place.layer(".wh..wh.plnk").exists() && !place.layer("o/.wh..wh..opq").exists());
    for evil in [".wh.", ".wh...", "d/.wh.."] {
        assert!(place.refuse(&Tar::default().file(evil, "")).contains("invalid whiteout name"), "{evil}");
    }
}

#[test]
fn no_name_leads_out_of_the_layer() {
    if !is_root() {
        return;
    }
    for evil in ["../sentinel", "a/../../sentinel", "..", "./../sentinel"] {
        let place = Place::new();
        assert!(place.refuse(&Tar::default().file(evil, "evil")).contains("outside of the layer"), "{evil}");
        let link = Tar::default().hardlink("x", evil);
        assert!(place.refuse(&link).contains("outside of the layer"), "{evil}");
        place.refuse(&Tar::default().pax(&[("path", evil.as_bytes())]).file("x", "evil"));
    }
    let place = Place::new();
    let outside = place.directory.path().join("sentinel");
    let absolute = outside.to_str().unwrap();
    place.unpack(&Tar::default().file(absolute, "mine").file("/../up", "")).unwrap();
    assert_eq!(std::fs::read_to_string(place.layer(&absolute[1..])).unwrap(), "mine");
    assert!(place.layer("up").exists());
}

#[test]
fn links_are_followed_inside_the_layer_only() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let home = place.directory.path().to_str().unwrap().to_owned();
    for (link, target) in [("up", "../.."), ("abs", home.as_str()), ("proc", "/proc/self/root")] {
        let tar = Tar::default().symlink(link, target).file(&format!("{link}/sentinel"), "evil");
        // Either it lands below the layer or it is refused; it never lands outside, which `unpack` checks.
        let _ = place.unpack(&tar);
        let hard = Tar::default().symlink(link, target).hardlink("stolen", &format!("{link}/sentinel"));
        let _ = place.unpack(&hard);
        if let Ok(stolen) = std::fs::read_to_string(place.layer("stolen")) {
            assert_eq!(stolen, "evil", "{link}");
        }
    }
    let place = Place::new();
    let usrmerge = Tar::default().directory("usr/bin").symlink("bin", "usr/bin").file("bin/sh", "x");
    place.unpack(&usrmerge).unwrap();
    assert!(place.layer("usr/bin/sh").exists());
    // A link is replaced, never written through.
    place.unpack(&Tar::default().symlink("f", "usr/bin/sh").file("f", "new")).unwrap();
    assert_eq!(std::fs::read_to_string(place.layer("usr/bin/sh")).unwrap(), "x");
    // A directory swapped for a link half-way takes its times along.
    place.unpack(&Tar::default().directory("t").symlink("t", "../sentinel").symlink("u", "/")).unwrap();
}

#[test]
fn a_later_entry_replaces_an_earlier_one_and_sizes_follow() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::default()
        .file("d/e/f", "123456")
        .file("d/g", "123")
        .hardlink("h", "d/g")
        .file("d", "12")
        .directory("x")
        .file("x", "1")
        .directory("x");
    assert_eq!(place.unpack(&tar).unwrap(), 3 + 2);
    assert!(place.layer("d").is_file() && place.layer("x").is_dir());
}

#[test]
fn overlays_own_attributes_are_not_taken_from_a_layer() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let records: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
        ("SCHILY.xattr.trusted.mine", b"1"),
    ];
    place.unpack(&Tar::default().pax(&records).directory("d").pax(&records).file("f", "")).unwrap();
    for path in ["d", "f"] {
        assert_eq!(xattr(&place.layer(path), "trusted.overlay.redirect"), None);
        assert_eq!(xattr(&place.layer(path), "trusted.overlay.metacopy"), None);
        assert!(xattr(&place.layer(path), "trusted.mine").is_some());
    }
}

#[test]
fn excess_is_refused() {
    let place = Place::new();
    let long = "x/".repeat(2100);
    assert!(place.refuse(&Tar::default().pax(&[("path", long.as_bytes())]).file("x", "")).contains("too long"));
    let deep = "x/".repeat(1200);
    assert!(place.refuse(&Tar::default().pax(&[("path", deep.as_bytes())]).file("x", "")).contains("deep"));
    let wide = "x".repeat(300);
    place.refuse(&Tar::default().pax(&[("path", wide.as_bytes())]).file("x", ""));
    place.refuse(&Tar::default().pax(&[("path", b"a\0b")]).file("x", ""));
    place.refuse(&Tar::default().pax(&[("uid", b"4294967295")]).file("x", ""));
    place.refuse(&Tar::default().pax(&[("size", b"18446744073709551615")]).file("x", ""));
    let special = |block: &mut [u8; 512]| block[124..136].copy_from_slice(b"77777777777\0");
    assert!(place.refuse(&Tar::default().tweak(b'x', "pax", special)).contains("too large"));
    assert!(place.refuse(&Tar::default().tweak(b'L', "long", special)).contains("too large"));
    assert!(place.refuse(&Tar::default().tweak(b'Z', "odd", |_| {})).contains("unhandled tar header type"));
    let sparse = |block: &mut [u8; 512]| block[483..495].copy_from_slice(b"77777777777\0");
    place.unpack(&Tar::default().tweak(b'S', "all-hole", sparse)).unwrap();
    assert_eq!(std::fs::metadata(place.layer("all-hole")).unwrap().len(), 0o77_777_777_777);
}

#[test]
fn truncation_anywhere_is_an_error() {
    let whole = Tar::default().directory("d").file("d/f", &"x".repeat(2000)).0;
    for length in (1..whole.len()).step_by(97).filter(|length| length % 512 != 0) {
        let place = Place::new();
        let done = unpack_at(&whole[..length], place.directory.path());
        // The padding of the last entry may be missing; its data may not.
        assert!(done.is_err() || length >= 1024 + 2000, "{length}");
    }
}

#[test]
fn sparse_files_of_gnu_tar_come_out_whole_and_sparse() {
    let place = Place::new();
    let source = place.directory.path().join("trash/source");
    std::fs::create_dir(&source).unwrap();
    let file = std::fs::File::create(source.join("holes")).unwrap();
    for offset in (0..40).map(|n| n * 300_000 + 5000) {
        std::os::unix::fs::FileExt::write_all_at(&file, b"data in the middle of nothing", offset).unwrap();
    }
    file.set_len(20_000_000).unwrap();
    let wanted = std::fs::read(source.join("holes")).unwrap();
    for format in ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"] {
        let extra = if format.contains("sparse") { "--format=pax" } else { format };
        let made = Command::new("tar").args(["-S", extra, format, "-C"]).arg(&source).args(["-c", "holes"]).output();
        let Ok(made) = made else {
            println!("skipped: no tar program");
            return;
        };
        assert!(made.status.success() && made.stdout.len() < 1_000_000, "{format}");
        let target = Place::new();
        unpack_at(&made.stdout, target.directory.path()).unwrap();
        assert!(std::fs::read(target.layer("holes")).unwrap() == wanted, "{format}");
        assert!(std::fs::metadata(target.layer("holes")).unwrap().blocks() < 2000, "{format}");
        assert!(target.replay().unwrap() == made.stdout, "{format}");
    }
}

#[test]
fn gnu_long_names_reach_their_entry() {
    let place = Place::new();
    let name = format!("{}/{}", "a".repeat(120), "b".repeat(120));
    let tar = Tar::default().entry(b'L', "././@LongLink", "", name.as_bytes()).file("short", "x");
    let tar = tar.entry(b'K', "././@LongLink", "", name.as_bytes()).symlink("link", "short");
    if is_root() {
        place.unpack(&tar).unwrap();
        assert!(place.layer(&name).is_file());
        assert_eq!(std::fs::read_link(place.layer("link")).unwrap(), PathBuf::from(name));
    }
}

#[test]
fn the_tar_is_written_again_byte_for_byte_or_not_at_all() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::default()
        .pax(&[("mtime", b"1.5"), ("comment", b"kept")])
        .directory("d")
        .file("d/f", &"data".repeat(1000))
        .symlink("l", "d")
        .file("l/through", "a link")
        .hardlink("h", "d/f")
        .file("d/.wh.x", "")
        .file("empty", "");
    let mut whole = tar.0.clone();
    whole.extend([0; 1024]);
    whole.extend(b"bytes after the end count too");
    unpack_at(&whole, place.directory.path()).unwrap();
    assert!(place.replay().unwrap() == whole);
    assert_eq!(replayed_bytes(&place.directory.path().join("record")).unwrap(), whole.len() as u64);
    std::fs::write(place.layer("d/f"), "data".repeat(999) + "date").unwrap();
    assert!(place.replay().unwrap_err().to_string().contains("d/f: is not what the layer brought"));
}

#[test]
fn a_layer_that_replaces_its_own_files_is_written_again_too() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::default()
        .file("first", "stays")
        .directory("d")
        .file("d/f", &"old".repeat(1000))
        .symlink("l", "d")
        .file("l/through", "a link")
        .hardlink("h", "d/f")
        .file("l", "a file where the link was")
        .file("d/f", &"new".repeat(1000))
        .file("d", "a file where the directory was")
        .file("last", "comes after");
    let mut whole = tar.0.clone();
    whole.extend([0; 1024]);
    unpack_at(&whole, place.directory.path()).unwrap();
    assert!(place.replay().unwrap() == whole);
    assert_eq!(replayed_bytes(&place.directory.path().join("record")).unwrap(), whole.len() as u64);
    assert!(!place.directory.path().join("record.whole").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn bytes_changed_at_random_never_panic_nor_leave_the_layer(changes in prop::collection::vec((0_usize..6000, any::<u8>()), 1..12)) {
        let place = Place::new();
        let mut tar = Tar::default()
            .pax(&[("path", b"d/../x"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
            .directory("d")
            .file("d/f", "some data")
            .symlink("l", "d")
            .hardlink("h", "d/f")
            .file("l/.wh.x", "");
        for (position, byte) in changes {
            if let Some(place) = tar.0.get_mut(position) {
                *place = byte;
            }
        }
        let _ = place.unpack(&tar);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut stream = TarStream::new(bytes.as_slice());
        while let Ok(Some(_)) = stream.next_entry() {
            let _ = stream.read(&mut [0; 64]);
        }
    }
}
