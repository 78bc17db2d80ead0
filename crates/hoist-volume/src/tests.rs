//! Tests on real directories; those that need root (devices, trusted xattrs, owners) say so when they cannot run.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::*;

fn engine() -> (tempfile::TempDir, Volumes) {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(dir.path(), Db::in_memory().unwrap()).unwrap();
    (dir, volumes)
}

fn plain(volumes: &Volumes, name: &str) -> Result<Volume, Error> {
    volumes.create(name, "local", BTreeMap::new(), BTreeMap::new())
}

fn opts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// Two layers, topmost first, as the image store lays them out.
fn layers(dir: &Path) -> [PathBuf; 2] {
    let [top, base] = [dir.join("top"), dir.join("base")];
    for path in ["base/data/sub", "base/data/hidden", "base/data/gone", "top/data/sub", "top/data/hidden", "base/etc"] {
        fs::create_dir_all(dir.join(path)).unwrap();
    }
    [top, base]
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

#[test]
fn names_and_options_are_refused_with_dockers_texts() {
    let (_dir, volumes) = engine();
    let refuse = |name: &str, pairs: &[(&str, &str)]| {
        volumes.create(name, "", opts(pairs), BTreeMap::new()).unwrap_err().to_string()
    };
    let short = "create a: volume name is too short, names should be at least two alphanumeric characters";
    assert_eq!(refuse("a", &[]), short);
    for bad in ["_x", "a/b", "../x", ".removed", "a b", "ä1"] {
        assert!(refuse(bad, &[]).contains("includes invalid characters for a local volume name"), "{bad}");
    }
    assert_eq!(refuse("vol", &[("foo", "b")]), "create vol: invalid option: \"foo\"");
    assert_eq!(refuse("vol", &[("type", "tmpfs")]), "create vol: missing required option: \"device\"");
    assert_eq!(refuse("vol", &[("o", "bind"), ("device", "/x")]), "create vol: missing required option: \"type\"");
    assert_eq!(refuse("vol", &[("size", "3")]), "create vol: quota size requested but no quota support");
    let plugin = volumes.create("vol", "foo", BTreeMap::new(), BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(plugin, "create vol: error looking up volume plugin foo: plugin \"foo\" not found");
    assert!(volumes.list().is_empty());
}

#[test]
fn a_volume_is_made_once_found_again_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::in_memory().unwrap();
    let volumes = Volumes::open(dir.path(), db.clone()).unwrap();
    let made = volumes.create("data", "", BTreeMap::new(), opts(&[("a", "b")])).unwrap();
    assert_eq!(made.mountpoint, dir.path().join("volumes/data/_data"));
    assert_eq!(fs::metadata(&made.mountpoint).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(dir.path().join("volumes")).unwrap().permissions().mode() & 0o7777, 0o711);
    fs::write(made.mountpoint.join("f"), "x").unwrap();
    drop(volumes);
    let volumes = Volumes::open(dir.path(), db).unwrap();
    let found = plain(&volumes, "data").unwrap();
    assert_eq!((found.created_ns, found.labels["a"].as_str()), (made.created_ns, "b"));
    assert!(found.mountpoint.join("f").exists());
}

#[test]
fn an_anonymous_volume_is_returned_when_its_last_holder_lets_go() {
    let (_dir, volumes) = engine();
    let made = volumes.create("", "", BTreeMap::new(), BTreeMap::new()).unwrap();
    assert!(made.anonymous && made.name.len() == 64 && made.labels.contains_key("com.docker.volume.anonymous"));
    plain(&volumes, "named").unwrap();
    for container in ["c1", "c2"] {
        volumes.hold(&made.name, container, By::Container).unwrap();
        volumes.hold(&made.name, container, By::Container).unwrap();
        volumes.hold("named", container, By::Name).unwrap();
    }
    let busy = volumes.remove("named", true).unwrap_err().to_string();
    assert_eq!(busy, "remove named: volume is in use - [c1, c2]");
    volumes.release("c1", true).unwrap();
    assert_eq!(volumes.holders(&made.name), ["c2"]);
    volumes.release("c2", true).unwrap();
    assert!(!made.mountpoint.exists() && matches!(volumes.get(&made.name), Err(Error::NotFound(_))));
    assert!(volumes.holders("named").is_empty() && volumes.get("named").is_ok());
    assert!(matches!(volumes.hold("nosuch", "c1", By::Name), Err(Error::NotFound(_))));
    assert_eq!(volumes.remove("nosuch", false).unwrap_err().to_string(), "get nosuch: no such volume");
    volumes.remove("nosuch", true).unwrap();
}

#[test]
fn a_crash_between_directory_and_record_loses_no_data_and_leaves_no_litter() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::in_memory().unwrap();
    let volumes = Volumes::open(dir.path(), db.clone()).unwrap();
    plain(&volumes, "kept").unwrap();
    fs::write(dir.path().join("volumes/kept/_data/f"), "x").unwrap();
    let root = dir.path().join("volumes");
    // As if killed: in the middle of create, of another create with foreign data, of remove before and after the commit.
    fs::create_dir_all(root.join("half/_data")).unwrap();
    fs::create_dir_all(root.join("foreign/_data/d")).unwrap();
    fs::rename(root.join("kept"), root.join(".removed/kept")).unwrap();
    fs::create_dir_all(root.join(".removed/old/_data/d")).unwrap();
    let volumes = Volumes::open(dir.path(), db).unwrap();
    assert!(root.join("kept/_data/f").exists() && root.join("foreign/_data/d").exists());
    assert!(!root.join("half").exists() && !root.join(".removed/old").exists());
    assert_eq!(volumes.list().len(), 1);
}

#[test]
fn mount_options_become_a_mount_spec() {
    let (dir, volumes) = engine();
    let made = volumes
        .create("nfs1", "", opts(&[("type", "nfs"), ("o", "addr=10.0.0.1,rw"), ("device", ":/x")]), BTreeMap::new())
        .unwrap();
    let spec = made.mount_spec().unwrap();
    assert_eq!((spec.fstype.as_str(), spec.source.as_str(), spec.is_bind()), ("nfs", ":/x", false));
    assert_eq!(spec.options, ["addr=10.0.0.1", "rw"]);
    assert_eq!(plain(&volumes, "plain").unwrap().mount_spec(), None);
    fs::create_dir_all(dir.path().join("layer/data")).unwrap();
    volumes.copy_up("nfs1", &[dir.path().join("layer")], Path::new("/data")).unwrap();
}

#[test]
fn copy_up_sees_what_overlay_would_show() {
    if !is_root() {
        return;
    }
    let (dir, volumes) = engine();
    let [top, base] = layers(dir.path());
    fs::write(base.join("data/sub/below"), "b").unwrap();
    fs::write(base.join("data/both"), "base").unwrap();
    fs::write(top.join("data/both"), "top").unwrap();
    fs::write(base.join("data/hidden/secret"), "s").unwrap();
    fs::write(top.join("data/hidden/new"), "n").unwrap();
    setxattr(top.join("data/hidden"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    whiteout(&top.join("data/gone"));
    fs::write(base.join("data/sub/f"), "f").unwrap();
    whiteout(&top.join("data/sub/f"));
    let volume = plain(&volumes, "v1").unwrap();
    volumes.copy_up("v1", &[top, base], Path::new("/data")).unwrap();
    let at = |path: &str| volume.mountpoint.join(path);
    assert_eq!(fs::read_to_string(at("both")).unwrap(), "top");
    assert!(at("sub/below").exists() && at("hidden/new").exists());
    for absent in ["hidden/secret", "gone", "sub/f"] {
        assert!(fs::symlink_metadata(at(absent)).is_err(), "{absent}");
    }
    let mut value = [0; 8];
    assert!(rustix::fs::getxattr(at("hidden"), "trusted.overlay.opaque", &mut value).is_err());
}

#[test]
fn copy_up_keeps_owner_mode_times_xattrs_links_holes_and_special_files() {
    if !is_root() {
        return;
    }
    let (dir, volumes) = engine();
    let [_, base] = layers(dir.path());
    let data = base.join("data");
    let file = data.join("file");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(7), Some(8)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    setxattr(&file, "user.note", b"hi", XattrFlags::empty()).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(UNIX_EPOCH).unwrap();
    fs::hard_link(&file, data.join("sub/other")).unwrap();
    symlink("/nowhere", data.join("link")).unwrap();
    std::os::unix::fs::lchown(data.join("link"), Some(9), Some(9)).unwrap();
    mknodat(CWD, data.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    mknodat(CWD, data.join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap();
    let sparse = fs::File::create(data.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    std::os::unix::fs::chown(&data, Some(5), Some(6)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o1770)).unwrap();

    let volume = plain(&volumes, "v1").unwrap();
    volumes.copy_up("v1", &[base], Path::new("data")).unwrap();
    let meta = |name: &str| fs::symlink_metadata(volume.mountpoint.join(name)).unwrap();
    let copied = meta("file");
    assert_eq!((copied.uid(), copied.gid(), copied.mode() & 0o7777, copied.mtime()), (7, 8, 0o4751, 0));
    assert_eq!((copied.nlink(), copied.ino()), (2, meta("sub/other").ino()));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(volume.mountpoint.join("file"), "user.note", &mut value), Ok(2));
    assert_eq!((meta("link").uid(), meta("link").is_symlink()), (9, true));
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(meta("sparse").len(), 64 << 20);
    assert!(meta("sparse").blocks() < 1024, "holes were filled");
    let root = fs::metadata(&volume.mountpoint).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (5, 6, 0o1770));
    assert_eq!(root.mtime(), fs::metadata(&data).unwrap().mtime());
    assert_eq!(fs::read_dir(volume.mountpoint.parent().unwrap()).unwrap().count(), 1, "staging is gone");
}

#[test]
fn links_in_an_image_never_lead_out_of_its_layers() {
    let (dir, volumes) = engine();
    let [top, base] = layers(dir.path());
    fs::create_dir_all(base.join("real/deep")).unwrap();
    fs::write(base.join("real/deep/inside"), "i").unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    fs::create_dir_all(&top).unwrap();
    symlink("/../../real/./deep", top.join("abs")).unwrap();
    symlink(&outside, top.join("evil")).unwrap();
    symlink("../../../../../../../../../../outside", top.join("climb")).unwrap();
    symlink("loop", top.join("loop")).unwrap();
    let layers = [top, base];
    for (name, path, wanted) in
        [("abs1", "/abs", 1), ("evil", "/evil", 0), ("climb", "/climb/x/..", 0), ("up", "/abs/../../real/deep", 1)]
    {
        let volume = plain(&volumes, name).unwrap();
        volumes.copy_up(name, &layers, Path::new(path)).unwrap();
        assert_eq!(fs::read_dir(&volume.mountpoint).unwrap().count(), wanted, "{path}");
    }
    plain(&volumes, "loop").unwrap();
    assert!(volumes.copy_up("loop", &layers, Path::new("/loop")).unwrap_err().to_string().contains("symbolic link"));
    assert!(!volumes.get("loop").unwrap().mountpoint.parent().unwrap().join("_copying").exists());
}

#[test]
fn copy_up_leaves_a_volume_with_content_alone_and_is_finished_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::in_memory().unwrap();
    let volumes = Volumes::open(dir.path(), db.clone()).unwrap();
    let [_, base] = layers(dir.path());
    let volume = plain(&volumes, "v1").unwrap();
    fs::write(volume.mountpoint.join("mine"), "m").unwrap();
    volumes.copy_up("v1", std::slice::from_ref(&base), Path::new("/data")).unwrap();
    assert!(!volume.mountpoint.join("sub").exists());

    let crashed = plain(&volumes, "v2").unwrap();
    let home = crashed.mountpoint.parent().unwrap().to_owned();
    fs::create_dir_all(home.join("_copied/rest")).unwrap();
    fs::create_dir_all(home.join("_copying/half")).unwrap();
    fs::set_permissions(home.join("_copied"), fs::Permissions::from_mode(0o750)).unwrap();
    drop(volumes);
    Volumes::open(dir.path(), db).unwrap();
    assert!(crashed.mountpoint.join("rest").exists());
    assert!(!home.join("_copied").exists() && !home.join("_copying").exists());
    assert_eq!(fs::metadata(&crashed.mountpoint).unwrap().permissions().mode() & 0o777, 0o750);
}

#[test]
fn whoever_makes_or_removes_a_volume_it_is_told_once() {
    let (_dir, volumes) = engine();
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    let list = told.clone();
    let volumes = volumes.telling(move |change, name| list.lock().unwrap().push((change, name.to_owned())));
    plain(&volumes, "v1").unwrap();
    plain(&volumes, "v1").unwrap();
    volumes.remove("nope", true).unwrap();
    volumes.hold("v1", "c", By::Name).unwrap();
    volumes.remove("v1", true).unwrap_err();
    volumes.release("c", true).unwrap();
    volumes.remove("v1", false).unwrap();
    assert_eq!(*told.lock().unwrap(), [(Change::Created, "v1".to_owned()), (Change::Removed, "v1".to_owned())]);
}

/// The anonymous volume of a new container.
fn made_for(volumes: &Volumes, container: &str) -> String {
    volumes.create_for(container, "", BTreeMap::new(), BTreeMap::new()).unwrap().name
}

#[test]
fn an_anonymous_volume_goes_with_its_container_if_that_was_said_and_stays_where_it_was_named() {
    let (_dir, volumes) = engine();
    let [gone, kept, named] = ["c1", "c2", "c3"].map(|container| made_for(&volumes, container));
    volumes.release("c1", true).unwrap();
    volumes.release("c2", false).unwrap();
    // What is given by name outlives whoever it was given to, also through a third container.
    volumes.hold(&named, "c4", By::Name).unwrap();
    volumes.hold(&named, "c5", By::Container).unwrap();
    for container in ["c3", "c4", "c5"] {
        volumes.release(container, true).unwrap();
    }
    assert!(volumes.get(&gone).is_err() && volumes.get(&kept).is_ok() && volumes.get(&named).is_ok());
    // A refused removal without volumes says nothing about the one that comes.
    let late = made_for(&volumes, "c6");
    volumes.note_removal("c6", false).unwrap();
    volumes.release("c6", true).unwrap();
    assert!(volumes.get(&late).is_err());
}

#[test]
fn what_a_crash_cut_short_is_finished_and_nothing_else_is_lost() {
    let (_dir, volumes) = engine();
    let ids = ["there", "came to nothing", "removed without", "removed with", "shares"];
    let [there, nothing, without, with, shared] = ids.map(|container| made_for(&volumes, container));
    let left_before = plain(&volumes, "").unwrap().name;
    plain(&volumes, "named").unwrap();
    volumes.hold("named", "came to nothing", By::Name).unwrap();
    volumes.hold(&shared, "there", By::Container).unwrap();
    volumes.note_removal("removed without", false).unwrap();
    volumes.note_removal("removed with", false).unwrap();
    volumes.note_removal("removed with", true).unwrap();
    volumes.finish_removals(|id| id == "there").unwrap();
    for kept in [there.as_str(), &without, &shared, &left_before, "named"] {
        volumes.get(kept).unwrap();
    }
    assert!(volumes.get(&nothing).is_err() && volumes.get(&with).is_err());
    assert!(volumes.holders("named").is_empty() && volumes.holders(&without).is_empty());
    assert_eq!(volumes.holders(&shared), ["there"]);
}

#[test]
fn holds_of_an_older_engine_let_nothing_go_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::in_memory().unwrap();
    db.migrate("volume", &store::STEPS[..1]).unwrap();
    let name = "ab".repeat(32);
    db.write(|tx| {
        tx.execute("INSERT INTO volume VALUES (?1, 'local', 1, '{}', '{}', 1)", [&name])?;
        tx.execute("INSERT INTO volume_hold VALUES (?1, 'c')", [&name])
    })
    .unwrap();
    let volumes = Volumes::open(dir.path(), db).unwrap();
    volumes.finish_removals(|_| false).unwrap();
    assert!(volumes.get(&name).is_ok() && volumes.holders(&name).is_empty());
}
