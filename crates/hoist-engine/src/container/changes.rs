//! `docker diff` and sizes: the upper directory compared with the layers below.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoist_api::container::Change;
use rustix::fs::{FileType, Stat};

use crate::archive::{Merged, Tree, by_descriptor};
use crate::container::record::Record;
use crate::error::{Error, Result};

const MODIFIED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;

/// The layer that the container writes to; the image's are below it.
const UPPER: usize = 0;
/// File capabilities, the only extended attribute that counts as a change, as with Docker.
const CAPABILITY: &str = "security.capability";
/// More than the kernel's longest value of it.
const CAPABILITY_MAX_BYTES: usize = 64;

/// What the container changed: a directory before what is in it, in the order of names, what is gone from it last.
pub(crate) fn changes(record: &Record, directory: &Path) -> Result<Vec<Change>> {
    let mut layers = vec![directory.join("upper")];
    layers.extend(record.fixed.layers.iter().cloned());
    of_layers(&layers).map_err(|e| Error::internal(format!("cannot read the changes of {}: {e}", record.id())))
}

/// The same of a stack of overlay layers: what the topmost one changes.
fn of_layers(layers: &[PathBuf]) -> io::Result<Vec<Change>> {
    let tree = Tree::open(layers)?;
    let mut found = Vec::new();
    let root = Level { path: Vec::new(), below: (1..layers.len()).collect(), hides: false, told: None };
    let mut levels = vec![Open::read(&tree, root)?];
    while let Some(open) = levels.last_mut() {
        let Some((name, merged)) = open.names.pop() else {
            open.finish(&mut found);
            levels.pop();
            continue;
        };
        if let Some(level) = open.take(&tree, &name, &merged, &mut found)? {
            levels.push(Open::read(&tree, level)?);
        }
    }
    Ok(found)
}

/// A directory of the upper layer.
struct Level {
    path: Vec<u8>,
    /// The layers below that have it as a directory, topmost first.
    below: Vec<usize>,
    /// Nothing of those shows through it.
    hides: bool,
    /// Where it was put among what was found, in case that something in it changed: without that, it goes from there.
    told: Option<usize>,
}

/// One that is being read.
struct Open {
    level: Level,
    /// What is left of its names, last first.
    names: Vec<(Vec<u8>, Merged)>,
    gone: Vec<Vec<u8>>,
}

impl Open {
    fn read(tree: &Tree, level: Level) -> io::Result<Open> {
        let names = tree.names(&level.path, &[UPPER])?;
        let mut gone = Vec::new();
        if level.hides && !level.below.is_empty() {
            let kept: HashSet<&[u8]> = names.iter().map(|(name, _)| name.as_slice()).collect();
            let below = tree.names(&level.path, &level.below)?.into_iter().rev();
            gone.extend(
                below.filter(|(name, of)| !of.is_gone && !kept.contains(name.as_slice())).map(|(name, _)| name),
            );
        }
        Ok(Open { level, names, gone })
    }

    /// Tells of one name; gives back a directory that is to be read.
    fn take(
        &mut self,
        tree: &Tree,
        name: &[u8],
        merged: &Merged,
        found: &mut Vec<Change>,
    ) -> io::Result<Option<Level>> {
        let path = join(&self.level.path, name);
        let below = tree.look(&path, &self.level.below)?.filter(|below| !below.is_gone);
        if merged.is_gone {
            self.gone.extend(below.map(|_| name.to_vec()));
            return Ok(None);
        }
        let Some((file, stat)) = tree.at(UPPER, &path)? else { return Ok(None) };
        let old = match below.as_ref().and_then(|below| below.layers.first()) {
            Some(&layer) => tree.at(layer, &path)?,
            None => None,
        };
        let kind = match &old {
            None => Some(ADDED),
            Some((old_file, old)) if differs(old, &stat) || capability(old_file) != capability(&file) => Some(MODIFIED),
            Some(_) => None,
        };
        if merged.kind != FileType::Directory {
            found.extend(kind.map(|kind| change(&path, kind)));
            return Ok(None);
        }
        let told = kind.is_none().then_some(found.len());
        found.push(change(&path, kind.unwrap_or(MODIFIED)));
        let below = below.filter(|below| below.kind == FileType::Directory).map(|below| below.layers);
        let hides = self.level.hides || !merged.is_open;
        Ok(Some(Level { path, below: below.unwrap_or_default(), hides, told }))
    }

    fn finish(&mut self, found: &mut Vec<Change>) {
        self.gone.sort();
        found.extend(self.gone.iter().map(|name| change(&join(&self.level.path, name), DELETED)));
        if self.level.told.is_some_and(|at| at + 1 == found.len()) {
            found.pop();
        }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn change(path: &[u8], kind: u8) -> Change {
    Change { path: format!("/{}", String::from_utf8_lossy(path)), kind }
}

/// Docker's rule: a copy that the kernel made of a file is no change. Size and time of a directory say nothing, and times
/// without a fraction may have lost it.
fn differs(old: &Stat, new: &Stat) -> bool {
    let about = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let is_same_time = old.st_mtime == new.st_mtime
        && (old.st_mtime_nsec == new.st_mtime_nsec || old.st_mtime_nsec == 0 || new.st_mtime_nsec == 0);
    let is_directory = FileType::from_raw_mode(old.st_mode) == FileType::Directory;
    about(old) != about(new) || !is_directory && (!is_same_time || old.st_size != new.st_size)
}

fn capability(file: &OwnedFd) -> Option<Vec<u8>> {
    let mut value = [0_u8; CAPABILITY_MAX_BYTES];
    let length = rustix::fs::getxattr(by_descriptor(file.as_fd()), CAPABILITY, &mut value).ok()?;
    Some(value[..length].to_vec())
}

/// Bytes of the regular files in the upper directory (`SizeRw`).
pub(crate) fn upper_size_bytes(directory: &Path) -> i64 {
    fn sum(path: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(path) else { return 0 };
        entries
            .flatten()
            .map(|entry| match entry.metadata() {
                Ok(m) if m.is_dir() => sum(&entry.path()),
                Ok(m) if m.is_file() => m.len(),
                _ => 0,
            })
            .sum()
    }
    i64::try_from(sum(&directory.join("upper"))).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, Mode, Timespec, Timestamps, XattrFlags};

    use super::*;

    struct Stack {
        _dir: tempfile::TempDir,
        layers: Vec<PathBuf>,
    }

    impl Stack {
        /// Layers, topmost first, each with its files; a name that ends with a slash is a directory.
        fn of(layers: &[&[&str]]) -> Stack {
            let dir = tempfile::tempdir().unwrap();
            let paths: Vec<PathBuf> = (0..layers.len()).map(|number| dir.path().join(number.to_string())).collect();
            for (root, names) in paths.iter().zip(layers) {
                fs::create_dir(root).unwrap();
                for name in *names {
                    let path = root.join(name);
                    fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
                    if !name.ends_with('/') {
                        fs::write(&path, name).unwrap();
                        set_time(&path, 5, 7);
                    }
                }
            }
            Stack { _dir: dir, layers: paths }
        }

        fn upper(&self, name: &str) -> PathBuf {
            self.layers[0].join(name)
        }

        fn whiteout(&self, name: &str) {
            let path = self.upper(name);
            rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        }

        fn make_opaque(&self, name: &str) {
            let path = self.upper(name);
            rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        }

        fn changes(&self) -> Vec<String> {
            let shown = |change: Change| format!("{} {}", ['C', 'A', 'D'][usize::from(change.kind)], change.path);
            of_layers(&self.layers).unwrap().into_iter().map(shown).collect()
        }
    }

    fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
    }

    #[test]
    fn what_an_opaque_directory_hides_is_gone() {
        let stack = Stack::of(&[
            &["data/b/zz", "data/b/deep/", "plain/new"],
            &["data/mid", "data/b/deep/below"],
            &["data/a", "data/b/x", "data/c/y", "data/b/deep/lowest", "plain/old", "other/file"],
        ]);
        stack.make_opaque("data");
        let wanted = [
            "C /data",
            "C /data/b",
            "C /data/b/deep",
            "D /data/b/deep/below",
            "D /data/b/deep/lowest",
            "A /data/b/zz",
            "D /data/b/x",
            "D /data/a",
            "D /data/c",
            "D /data/mid",
            "C /plain",
            "A /plain/new",
        ];
        assert_eq!(stack.changes(), wanted);
    }

    #[test]
    fn whiteouts_and_other_kinds_hide_without_names() {
        let stack = Stack::of(&[&["now-file", "now-dir/new"], &["now-file/a", "now-dir", "d/gone", "d/stays"]]);
        fs::create_dir(stack.upper("d")).unwrap();
        stack.whiteout("d/gone");
        stack.whiteout("d/never-was");
        assert_eq!(stack.changes(), ["C /d", "D /d/gone", "C /now-dir", "A /now-dir/new", "C /now-file"]);
    }

    #[test]
    fn a_copy_is_no_change_but_what_was_done_to_it_is() {
        let names = ["d/same", "d/time", "d/rounded", "d/mode", "d/size", "d/owner"];
        let stack = Stack::of(&[&names, &names]);
        set_time(&stack.upper("d"), 9, 9);
        set_time(&stack.upper("d/time"), 5, 8);
        set_time(&stack.upper("d/rounded"), 5, 0);
        rustix::fs::chmod(stack.upper("d/mode"), Mode::from_raw_mode(0o600)).unwrap();
        std::os::unix::fs::chown(stack.upper("d/owner"), Some(7), None).unwrap();
        fs::write(stack.upper("d/size"), "longer than its name").unwrap();
        set_time(&stack.upper("d/size"), 5, 7);
        assert_eq!(stack.changes(), ["C /d", "C /d/mode", "C /d/owner", "C /d/size", "C /d/time"]);
        let stack = Stack::of(&[&names, &names]);
        assert!(stack.changes().is_empty());
        rustix::fs::chmod(stack.upper("d"), Mode::from_raw_mode(0o700)).unwrap();
        assert_eq!(stack.changes(), ["C /d"]);
        // version 2, cap_chown
        let capability = [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::fs::setxattr(stack.upper("d/same"), CAPABILITY, &capability, XattrFlags::empty()).unwrap();
        assert_eq!(stack.changes(), ["C /d", "C /d/same"]);
    }
}
