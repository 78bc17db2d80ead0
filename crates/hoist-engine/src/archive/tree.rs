//! The walk over a stack of overlay layers (kernel Documentation/filesystems/overlayfs.rst), sorted by name, without mounting
//! them. Every directory is opened anew below its layer's root, following no link, so that a deep tree holds few descriptors.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::DEPTH_MAX;

/// Marks of overlayfs that say that a directory or a file is elsewhere; mounts of ours do not make them, but a kernel may be
/// set to.
const ELSEWHERE: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];
const OPAQUE: &str = "trusted.overlay.opaque";

/// Layers, topmost first.
#[derive(Debug)]
pub(crate) struct Tree {
    roots: Vec<OwnedFd>,
}

/// What the walk comes upon. Paths are relative, without a slash at their end.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A file or directory; directories come before what is in them. `file` is opened with `O_PATH`.
    Entry { path: &'a [u8], file: BorrowedFd<'a>, stat: Stat },
    /// The topmost layer that speaks of the name says that it is gone.
    Whiteout { path: &'a [u8], stat: Stat },
    /// The directory that came before hides those below it.
    Opaque { path: &'a [u8], stat: Stat },
}

impl Found<'_> {
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Found::Entry { path, .. } | Found::Whiteout { path, .. } | Found::Opaque { path, .. } => path,
        }
    }
}

/// A name in a merged directory.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The layers that make it up, topmost first.
    pub(crate) layers: Vec<usize>,
    pub(crate) kind: FileType,
    /// The topmost layer that speaks of it says that it is gone.
    pub(crate) is_gone: bool,
    /// Lower layers may still add to it.
    pub(crate) is_open: bool,
}

/// A directory being walked: its path, and what is left of its names, last first.
struct Level {
    path: Vec<u8>,
    left: Vec<(Vec<u8>, Merged)>,
}

type Visit<'v> = dyn FnMut(Found<'_>) -> io::Result<()> + 'v;

impl Tree {
    pub(crate) fn open(layers: &[PathBuf]) -> io::Result<Tree> {
        let open = |path: &PathBuf| {
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("layer {}: {e}", path.display())))
        };
        Ok(Tree { roots: layers.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// Calls `visit` for everything but the root directory itself. What vanishes during the walk is passed over.
    pub(super) fn walk(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        let all: Vec<usize> = (0..self.roots.len()).collect();
        let mut levels = vec![Level { path: Vec::new(), left: self.names(&[], &all)? }];
        while let Some(level) = levels.last_mut() {
            let Some((name, merged)) = level.left.pop() else {
                levels.pop();
                continue;
            };
            let mut path = level.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", String::from_utf8_lossy(&path)));
            if self.visit(&path, &merged, visit)? && merged.kind == FileType::Directory {
                if levels.len() >= DEPTH_MAX {
                    return Err(named(io::Error::other(format!("more than {DEPTH_MAX} directories deep"))));
                }
                let left = self.names(&path, &merged.layers).map_err(named)?;
                levels.push(Level { path, left });
            }
        }
        Ok(())
    }

    /// Whether it was still there.
    fn visit(&self, path: &[u8], merged: &Merged, visit: &mut Visit<'_>) -> io::Result<bool> {
        let Some(&top) = merged.layers.first() else { return Ok(false) };
        let named =
            |e: Errno| io::Error::new(io::Error::from(e).kind(), format!("{}: {e}", String::from_utf8_lossy(path)));
        let Some(file) = self.open_in(top, path, OFlags::PATH | OFlags::NOFOLLOW).map_err(named)? else {
            return Ok(false);
        };
        let stat = rustix::fs::fstat(&file).map_err(named)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if merged.is_gone || is_whiteout(&stat) {
            visit(Found::Whiteout { path, stat })?;
            return Ok(false);
        }
        if kind == FileType::Directory || kind == FileType::RegularFile {
            for mark in ELSEWHERE {
                if xattr_is_there(file.as_fd(), mark) {
                    let text = format!("{}: {mark} is set: its content is elsewhere", String::from_utf8_lossy(path));
                    return Err(io::Error::other(text));
                }
            }
        }
        visit(Found::Entry { path, file: file.as_fd(), stat })?;
        if kind == FileType::Directory && is_opaque(file.as_fd()) {
            visit(Found::Opaque { path, stat })?;
        }
        Ok(kind == merged.kind)
    }

    /// What a path stands for in these layers, of which each has the directory that it is in.
    pub(crate) fn look(&self, path: &[u8], layers: &[usize]) -> io::Result<Option<Merged>> {
        let mut found: Option<Merged> = None;
        for &layer in layers {
            let Some(file) = self.open_in(layer, path, OFlags::PATH | OFlags::NOFOLLOW)? else { continue };
            let stat = rustix::fs::fstat(&file)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_directory = kind == FileType::Directory;
            let is_open = is_directory && !is_opaque(file.as_fd());
            match &mut found {
                None => found = Some(Merged { layers: vec![layer], kind, is_gone: is_whiteout(&stat), is_open }),
                Some(merged) if is_directory => {
                    merged.layers.push(layer);
                    merged.is_open = is_open;
                }
                // something else in a lower layer ends the stack of directories above it
                Some(merged) => merged.is_open = false,
            }
            if found.as_ref().is_some_and(|merged| !merged.is_open) {
                break;
            }
        }
        Ok(found)
    }

    /// The names in a directory of these layers, last first.
    pub(crate) fn names(&self, path: &[u8], layers: &[usize]) -> io::Result<Vec<(Vec<u8>, Merged)>> {
        let mut names: BTreeMap<Vec<u8>, Merged> = BTreeMap::new();
        for &layer in layers {
            let Some(dir) = self.open_in(layer, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)? else {
                continue;
            };
            for entry in Dir::read_from(&dir)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let known = names.get_mut(name.to_bytes());
                if known.as_ref().is_some_and(|merged| !merged.is_open) {
                    continue;
                }
                let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(e.into()),
                };
                let kind = FileType::from_raw_mode(stat.st_mode);
                let is_directory = kind == FileType::Directory;
                let is_open = is_directory && !self.is_opaque_below(&dir, name.to_bytes());
                match known {
                    Some(merged) if is_directory => {
                        merged.layers.push(layer);
                        merged.is_open = is_open;
                    }
                    // something else in a lower layer ends the stack of directories above it
                    Some(merged) => merged.is_open = false,
                    None => {
                        let is_gone = is_whiteout(&stat);
                        let merged = Merged { layers: vec![layer], kind, is_gone, is_open };
                        names.insert(name.to_bytes().to_vec(), merged);
                    }
                }
            }
        }
        Ok(names.into_iter().rev().collect())
    }

    fn is_opaque_below(&self, dir: &OwnedFd, name: &[u8]) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // alone in its stack nothing is below it to be hidden
        self.roots.len() > 1
            && rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
                .is_ok_and(|file| is_opaque(file.as_fd()))
    }

    /// What is at a path of a layer itself, opened with `O_PATH`; `None` if it is not there any more.
    pub(crate) fn at(&self, layer: usize, path: &[u8]) -> io::Result<Option<(OwnedFd, Stat)>> {
        let Some(file) = self.open_in(layer, path, OFlags::PATH | OFlags::NOFOLLOW)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file)?;
        Ok(Some((file, stat)))
    }

    /// Opens a path of a layer; `None` if it is not there any more.
    fn open_in(&self, layer: usize, path: &[u8], flags: OFlags) -> Result<Option<OwnedFd>, Errno> {
        let path = if path.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(path)) };
        // NO_SYMLINKS together with O_PATH|O_NOFOLLOW still opens a link itself when it is the last component.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.roots[layer], path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(file) => return Ok(Some(file)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                // A rename elsewhere made the kernel unsure.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// overlay's mark for "deleted here": a character device 0:0.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(file: BorrowedFd<'_>) -> bool {
    let mut value = [0; 8];
    matches!(rustix::fs::getxattr(by_descriptor(file), OPAQUE, &mut value), Ok(1) if value[0] == b'y')
}

fn xattr_is_there(file: BorrowedFd<'_>, name: &str) -> bool {
    // a value that does not fit is one that is there
    !matches!(rustix::fs::getxattr(by_descriptor(file), name, &mut [0_u8; 0]), Err(Errno::NODATA | Errno::NOTSUP))
}

/// How calls that take a path, or a descriptor not of `O_PATH`, get at a file that is open with `O_PATH`: open(2).
pub(crate) fn by_descriptor(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
