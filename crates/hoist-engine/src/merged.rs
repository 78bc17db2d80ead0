//! Looking a file up in a container's layers without mounting them: upper directory first, then layers topmost first,
//! whiteouts honoured, symlinks followed inside the merged tree only. And users and groups read that way.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use hoist_runtime::user::{self, User};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

const MAX_LINKS: usize = 40;

/// A container's tree: the directories that make it up, uppermost first. Opened once for all that is looked up.
struct Merged {
    roots: Vec<OwnedFd>,
}

enum Step {
    File(File),
    Link(PathBuf),
}

/// What a name stands for in the merged tree.
enum Found {
    /// A directory: those of the layers that show in it, uppermost first.
    Directory(Vec<OwnedFd>),
    Other(OwnedFd, FileType),
}

impl Merged {
    /// A directory that cannot be opened counts as empty.
    fn open(layers: &[PathBuf], upper: &Path) -> Merged {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path| rustix::fs::openat(CWD, path, flags, Mode::empty()).ok();
        Merged { roots: std::iter::once(upper).chain(layers.iter().map(PathBuf::as_path)).filter_map(open).collect() }
    }

    /// Opens a regular file for reading; `None` if there is none.
    fn file(&self, path: &Path) -> Option<File> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.step(&path)? {
                Step::File(file) => return Some(file),
                Step::Link(next) => path = next,
            }
        }
        None
    }

    /// Walks component by component; a symlink anywhere gives the path to go on with.
    fn step(&self, path: &Path) -> Option<Step> {
        let names: Vec<&OsStr> =
            path.components().filter_map(|c| if let Component::Normal(name) = c { Some(name) } else { None }).collect();
        let mut here = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let directories = if index == 0 { &self.roots } else { &here };
            let last = index + 1 == names.len();
            match look(directories, name)? {
                Found::Directory(next) if !last => here = next,
                Found::Other(fd, FileType::Symlink) => {
                    let target = rustix::fs::readlinkat(&fd, "", Vec::new()).ok()?;
                    let base: PathBuf = names[..index].iter().collect();
                    let rest: PathBuf = names[index + 1..].iter().collect();
                    return Some(Step::Link(clean(&base.join(OsString::from_vec(target.into_bytes())).join(rest))));
                }
                Found::Other(fd, FileType::RegularFile) if last => return reopen(&fd).map(Step::File),
                _ => return None,
            }
        }
        None
    }
}

/// One component: a name without slashes, which is not followed. Whiteouts and what is no directory hide what is below.
fn look(directories: &[OwnedFd], name: &OsStr) -> Option<Found> {
    let mut found = Vec::new();
    for directory in directories {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(_) => return None,
        };
        let stat = rustix::fs::fstat(&fd).ok()?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        if kind != FileType::Directory {
            return match found.is_empty() {
                true if !whiteout => Some(Found::Other(fd, kind)),
                true => None,
                false => Some(Found::Directory(found)),
            };
        }
        let mut value = [0_u8; 1];
        let opaque = rustix::fs::getxattr(proc_path(&fd), "trusted.overlay.opaque", &mut value[..]);
        found.push(fd);
        if opaque.is_ok_and(|length| length == 1 && value[0] == b'y') {
            break;
        }
    }
    (!found.is_empty()).then_some(Found::Directory(found))
}

/// For reading what was looked at, whatever stands at its name by now.
fn reopen(fd: &OwnedFd) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(CWD, proc_path(fd), flags, Mode::empty()).ok().map(File::from)
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
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
    let merged = Merged::open(layers, upper);
    let open = |path: &str| -> Box<dyn Read> {
        match merged.file(Path::new(path)) {
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

/// Whether a regular file, or a link to one, stands at an absolute path of the merged tree.
pub(crate) fn is_file(layers: &[PathBuf], path: &Path) -> bool {
    Merged::open(layers, Path::new("")).file(path).is_some()
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
    fn files_are_told_from_directories_and_from_nothing() {
        let (_dir, _, layers) = tree();
        std::os::unix::fs::symlink("etc/passwd", layers[0].join("link")).unwrap();
        let found =
            ["/etc/passwd", "/link", "/etc", "/", "/nope", "/etc/passwd/x"].map(|p| is_file(&layers, Path::new(p)));
        assert_eq!(found, [true, true, false, false, false, false]);
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
        let file = |path: &str| Merged::open(&layers, &upper).file(Path::new(path));
        assert!(file("etc/escape").is_none());
        std::os::unix::fs::symlink("etc/passwd", layers[0].join("link")).unwrap();
        assert!(file("link").is_some());
        std::fs::create_dir(upper.join("etc")).unwrap();
        rustix::fs::mknodat(CWD, upper.join("etc/passwd"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        assert!(file("etc/passwd").is_none());
        assert!(file("etc/group").is_some());
        // An opaque directory, and anything that is no directory, hides what is below.
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(upper.join("etc"), "trusted.overlay.opaque", b"y", flags).unwrap();
        assert!(file("etc/group").is_none());
        std::fs::remove_dir_all(upper.join("etc")).unwrap();
        assert!(file("etc/passwd").is_some());
        std::fs::write(upper.join("etc"), "").unwrap();
        assert!(file("etc/passwd").is_none());
    }
}
