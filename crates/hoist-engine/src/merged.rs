//! Looking a file up in a container's layers without mounting them: upper directory first, then layers topmost first,
//! whiteouts honoured, symlinks followed inside the merged tree only. And users and groups read that way.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use hoist_runtime::user::{self, User};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use crate::error::{Error, Result};

const MAX_LINKS: usize = 40;

/// Opens a regular file of the merged tree for reading; `None` if there is none.
pub(crate) fn open_file(layers: &[PathBuf], upper: &Path, path: &Path) -> Option<File> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match step(layers, upper, &path)? {
            Step::File(fd) => return Some(File::from(fd)),
            Step::Link(next) => path = next,
        }
    }
    None
}

enum Step {
    File(OwnedFd),
    Link(PathBuf),
}

/// Walks component by component; a symlink anywhere gives the path to go on with.
fn step(layers: &[PathBuf], upper: &Path, path: &Path) -> Option<Step> {
    let names: Vec<&std::ffi::OsStr> =
        path.components().filter_map(|c| if let Component::Normal(name) = c { Some(name) } else { None }).collect();
    let mut walked = PathBuf::new();
    for (index, name) in names.iter().enumerate() {
        walked.push(name);
        let (layer, kind) = find(layers, upper, &walked)?;
        let last = index + 1 == names.len();
        match kind {
            FileType::Symlink => {
                let target = read_link(layer, &walked)?;
                let base = walked.parent().unwrap_or(Path::new(""));
                let rest: PathBuf = names[index + 1..].iter().collect();
                return Some(Step::Link(clean(&base.join(target).join(rest))));
            }
            FileType::Directory if !last => {}
            FileType::RegularFile if last => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
                return open_at(layer, &walked, flags).map(Step::File);
            }
            _ => return None,
        }
    }
    None
}

/// The layer that decides about `path`, and what it is there.
fn find<'a>(layers: &'a [PathBuf], upper: &'a Path, path: &Path) -> Option<(&'a Path, FileType)> {
    for layer in std::iter::once(upper).chain(layers.iter().map(PathBuf::as_path)) {
        if let Some(fd) = open_at(layer, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
            let stat = rustix::fs::fstat(&fd).ok()?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
            return (!whiteout).then_some((layer, kind));
        }
        if hidden_below(layer, path) {
            return None;
        }
    }
    None
}

/// An opaque directory or a whiteout on the way hides lower layers.
fn hidden_below(layer: &Path, path: &Path) -> bool {
    path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).any(|ancestor| {
        let Some(fd) = open_at(layer, ancestor, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) else {
            return false;
        };
        let Ok(stat) = rustix::fs::fstat(&fd) else { return false };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == 0,
            FileType::Directory => {
                let mut value = [0_u8; 1];
                let full = layer.join(ancestor);
                rustix::fs::lgetxattr(&full, "trusted.overlay.opaque", &mut value)
                    .is_ok_and(|n| n == 1 && value[0] == b'y')
            }
            _ => true,
        }
    })
}

fn open_at(layer: &Path, path: &Path, flags: OFlags) -> Option<OwnedFd> {
    let root =
        rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // NO_SYMLINKS together with O_PATH|O_NOFOLLOW still opens a link itself when it is the last component.
    rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).ok()
}

fn read_link(layer: &Path, path: &Path) -> Option<PathBuf> {
    let fd = open_at(layer, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
    let target = rustix::fs::readlinkat(&fd, "", Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Resolves `.` and `..` by text, never above the root.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => _ = cleaned.pop(),
            Component::RootDir => cleaned.clear(),
            _ => {}
        }
    }
    cleaned
}

/// Resolves `user[:group]` and further groups as docker does, by the account files of the merged tree.
pub(crate) fn user(layers: &[PathBuf], upper: &Path, text: &str, additional: &[String]) -> Result<User> {
    let open = |path: &str| -> Box<dyn Read> {
        match open_file(layers, upper, Path::new(path)) {
            Some(file) => Box::new(file),
            None => Box::new(io::empty()),
        }
    };
    let found = user::resolve(open("etc/passwd"), open("etc/group"), text, additional);
    let mut found = found.map_err(|e| match e {
        user::Error::Read(..) => Error::internal(e.to_string()),
        _ => Error::invalid(e.to_string()),
    })?;
    if found.home.is_empty() {
        "/".clone_into(&mut found.home);
    }
    Ok(found)
}

/// Path bytes as text for messages and wire fields.
pub(crate) fn display(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let (upper, low) = (dir.path().join("upper"), dir.path().join("low"));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(low.join("etc")).unwrap();
        std::fs::write(low.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:\n").unwrap();
        std::fs::write(low.join("etc/group"), "wheel:x:10:bob\nbob:x:1001:\n").unwrap();
        (dir, upper, vec![low])
    }

    #[test]
    fn users_are_those_of_the_merged_tree() {
        let (_dir, upper, layers) = tree();
        let get = |text: &str, more: &[String]| user(&layers, &upper, text, more);
        let bob = get("bob", &["7".to_owned()]).unwrap();
        assert_eq!((bob.uid, bob.gid, bob.additional_gids), (1000, 1001, vec![1001, 10, 7]));
        assert_eq!(bob.home, "/home/bob");
        assert_eq!(get("5", &[]).unwrap().home, "/");
        assert_eq!(get("", &[]).unwrap().home, "/root");
        for bad in ["nobody", "4294967296", "-1", "bob:none", "99999999999999999999"] {
            assert!(get(bad, &[]).is_err(), "{bad}");
        }
        std::fs::create_dir(upper.join("etc")).unwrap();
        std::fs::write(upper.join("etc/passwd"), "bob:x:5:6::/home/other:\n").unwrap();
        assert_eq!(get("bob", &[]).unwrap().uid, 5);
    }

    #[test]
    fn an_id_that_the_kernel_would_ignore_is_nobodys() {
        let (_dir, upper, layers) = tree();
        let passwd = "bob:x:4294967295:0::/:\ngid:x:1:4294967295::/:\nme:x:7:7::/:\n";
        std::fs::write(layers[0].join("etc/passwd"), passwd).unwrap();
        std::fs::write(layers[0].join("etc/group"), "all:x:4294967295:me\n").unwrap();
        for bad in ["bob", "gid", "me:all", "4294967295"] {
            assert!(user(&layers, &upper, bad, &[]).is_err(), "{bad}");
        }
        assert_eq!(user(&layers, &upper, "me", &[]).unwrap().additional_gids, [7]);
        assert!(user(&layers, &upper, "me", &["all".to_owned()]).is_err());
    }

    #[test]
    fn links_stay_inside_and_whiteouts_hide() {
        let (_dir, upper, layers) = tree();
        std::os::unix::fs::symlink("/../../../../etc/hostname", layers[0].join("etc/escape")).unwrap();
        assert!(open_file(&layers, &upper, Path::new("etc/escape")).is_none());
        std::os::unix::fs::symlink("etc/passwd", layers[0].join("link")).unwrap();
        assert!(open_file(&layers, &upper, Path::new("link")).is_some());
        std::fs::create_dir(upper.join("etc")).unwrap();
        rustix::fs::mknodat(CWD, upper.join("etc/passwd"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        assert!(open_file(&layers, &upper, Path::new("etc/passwd")).is_none());
    }
}
