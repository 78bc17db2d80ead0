//! Paths inside a foreign root: every look-up by openat2(2) with `RESOLVE_IN_ROOT`, so that no symlink, absolute or with
//! `..`, leads out, and every creation relative to a directory fd that was looked up so.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Symlinks followed while directories are made, as in path_resolution(7).
const MAX_SYMLINKS: usize = 40;
/// openat2(2) says EAGAIN when a rename elsewhere made it unsure about `..`.
const MAX_ATTEMPTS: usize = 128;

/// Opens `path` as a process with this root would see it; magic links (`/proc/self/fd/…`) are not followed.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_resolving(root, path, flags, ResolveFlags::empty())
}

/// As [`open_in_root`], and no symlink is followed anywhere in the path.
pub fn open_without_symlinks(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_resolving(root, path, flags, ResolveFlags::NO_SYMLINKS)
}

fn open_resolving(root: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_ATTEMPTS {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The directory `path` in the root, made with its parents where missing. Links in existing parts are followed inside
/// the root, also dangling ones.
pub fn make_directories(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    make_directories_following(root, path, mode, MAX_SYMLINKS)
}

fn make_directories_following(root: BorrowedFd<'_>, path: &Path, mode: Mode, links: usize) -> io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, path, directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mut so_far = PathBuf::from("/");
    let mut current = open_in_root(root, &so_far, directory)?;
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::ParentDir => {
                so_far.pop();
                current = open_in_root(root, &so_far, directory)?;
                continue;
            }
            _ => continue,
        };
        let next = so_far.join(name);
        current = match open_in_root(root, &next, directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match rustix::fs::mkdirat(&current, name, mode) {
                    Ok(()) => open_child(current.as_fd(), name, directory)?,
                    Err(Errno::EXIST) if links > 0 => {
                        let target = match rustix::fs::readlinkat(&current, name, Vec::new()) {
                            Ok(target) => so_far.join(OsStr::from_bytes(target.as_bytes())),
                            // Made by somebody else in between.
                            Err(Errno::INVAL) => next.clone(),
                            Err(error) => return Err(error.into()),
                        };
                        make_directories_following(root, &target, mode, links - 1)?
                    }
                    Err(Errno::EXIST) => return Err(Errno::LOOP.into()),
                    Err(error) => return Err(error.into()),
                }
            }
            result => result?,
        };
        so_far = next;
    }
    Ok(current)
}

/// Splits a path for creation: the directory (made where missing) and the last name.
pub fn parent_directory<'a>(root: BorrowedFd<'_>, path: &'a Path, mode: Mode) -> io::Result<(OwnedFd, &'a OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = make_directories(root, path.parent().unwrap_or(Path::new("/")), mode)?;
    Ok((parent, name))
}

/// Opens an entry of a directory; a symlink in its place is refused (`ELOOP`).
pub fn open_child(directory: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let child = rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve)?;
    // With O_PATH and O_NOFOLLOW openat2(2) opens the link itself.
    let is_link = flags.contains(OFlags::PATH)
        && FileType::from_raw_mode(rustix::fs::fstat(&child)?.st_mode) == FileType::Symlink;
    if is_link { Err(Errno::LOOP.into()) } else { Ok(child) }
}

/// What a mount point has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// The kind of mount point that a source needs.
pub fn kind_of(source: BorrowedFd<'_>) -> io::Result<Kind> {
    let stat = rustix::fs::fstat(source)?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if directory { Kind::Directory } else { Kind::File })
}

/// Opens the mount point `path`, making it (and its parents) where missing. `ENOTDIR` when it is of the other kind.
pub fn mount_point(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o755);
    if kind == Kind::Directory {
        return make_directories(root, path, mode);
    }
    let existing = match open_in_root(root, path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (parent, name) = parent_directory(root, path, mode)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
            match rustix::fs::openat(&parent, name, flags, mode) {
                Ok(_) => open_child(parent.as_fd(), name, OFlags::PATH)?,
                // A dangling symlink: what it names is made, inside the root.
                Err(Errno::EXIST) => return file_behind_link(root, path, parent.as_fd(), name),
                Err(error) => return Err(error.into()),
            }
        }
        result => result?,
    };
    if kind_of(existing.as_fd())? == Kind::Directory {
        return Err(Errno::NOTDIR.into());
    }
    Ok(existing)
}

fn file_behind_link(root: BorrowedFd<'_>, path: &Path, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let mut target = rustix::fs::readlinkat(parent, name, Vec::new())?;
    let mut base = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    for _ in 0..MAX_SYMLINKS {
        let full = base.join(OsStr::from_bytes(target.as_bytes()));
        let (parent, name) = parent_directory(root, &full, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o755)) {
            Ok(_) => return open_child(parent.as_fd(), name, OFlags::PATH),
            Err(Errno::EXIST) => match rustix::fs::readlinkat(&parent, name, Vec::new()) {
                Ok(next) => {
                    target = next;
                    base = full.parent().unwrap_or(Path::new("/")).to_path_buf();
                }
                Err(Errno::INVAL) => return open_child(parent.as_fd(), name, OFlags::PATH),
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::LOOP.into())
}

/// Whether an entry of a directory is there, links not followed.
pub fn exists(directory: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Opens a root directory.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests;
