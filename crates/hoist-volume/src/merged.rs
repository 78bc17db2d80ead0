//! A directory as overlay(7) would show it, read straight from the layer directories. Every step opens one name below an
//! open directory without following links, so no link in an image leads out of its layers.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::Error;

/// As many links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// One directory of the merged tree: the directories of the layers that make it up, topmost first.
#[derive(Debug)]
pub(crate) struct MergedDir {
    layers: Vec<OwnedFd>,
}

/// What a name in a merged directory stands for.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    Dir(MergedDir),
    /// Anything else: which layer's directory has it.
    Other {
        parent: &'a OwnedFd,
        stat: Stat,
    },
}

impl MergedDir {
    fn root(layers: &[PathBuf]) -> Result<MergedDir, Error> {
        let open = |path: &PathBuf| {
            rustix::fs::open(path, DIRECTORY, Mode::empty())
                .map_err(|errno| Error::Other(format!("layer {}: {errno}", path.display())))
        };
        Ok(MergedDir { layers: layers.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// The topmost layer's directory: its owner, mode, times and xattrs are the merged directory's.
    pub(crate) fn top(&self) -> Option<&OwnedFd> {
        self.layers.first()
    }

    pub(crate) fn lookup(&self, name: &CString) -> Result<Option<Entry<'_>>, Errno> {
        let mut found = Vec::new();
        for layer in &self.layers {
            let stat = match statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                if found.is_empty() && !is_whiteout(&stat) {
                    return Ok(Some(Entry::Other { parent: layer, stat }));
                }
                break;
            }
            let fd = openat(layer, name, DIRECTORY, Mode::empty())?;
            let opaque = is_opaque(&fd);
            found.push(fd);
            if opaque {
                break;
            }
        }
        Ok(if found.is_empty() { None } else { Some(Entry::Dir(MergedDir { layers: found })) })
    }

    /// The names of all layers, whiteouts included: `lookup` says what each of them is.
    pub(crate) fn names(&self) -> Result<Vec<CString>, Errno> {
        let mut names = BTreeMap::new();
        for layer in &self.layers {
            for entry in Dir::read_from(layer)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    names.insert(entry.file_name().to_owned(), ());
                }
            }
        }
        Ok(names.into_keys().collect())
    }

    fn try_clone(&self) -> Result<MergedDir, Errno> {
        let clone = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 0);
        Ok(MergedDir { layers: self.layers.iter().map(clone).collect::<Result<_, _>>()? })
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// overlay's mark for "deleted here": a character device 0:0.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(dir: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0u8; 8];
        matches!(rustix::fs::fgetxattr(dir, *name, &mut value), Ok(1) if value[0] == b'y')
    })
}

/// Follows `path` through the merged tree; `None` if it does not lead to a directory there.
pub(crate) fn resolve(layers: &[PathBuf], path: &Path) -> Result<Option<MergedDir>, Error> {
    let fail = |errno: Errno| Error::Other(format!("{} in the image: {errno}", path.display()));
    let mut stack = vec![MergedDir::root(layers)?];
    let mut todo: Vec<OsString> = steps(path);
    let mut links = 0;
    while let Some(step) = todo.pop() {
        match step.as_bytes() {
            b"/" => stack.truncate(1),
            b".." if stack.len() > 1 => drop(stack.pop()),
            b".." => {}
            bytes => {
                let Some(current) = stack.last() else { return Ok(None) };
                let name = CString::new(bytes).map_err(|_| fail(Errno::INVAL))?;
                match current.lookup(&name).map_err(fail)? {
                    None => return Ok(None),
                    Some(Entry::Dir(dir)) => stack.push(dir),
                    Some(Entry::Other { parent, stat }) => {
                        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                            return Ok(None);
                        }
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(fail(Errno::LOOP));
                        }
                        let target = readlinkat(parent, &name, Vec::new()).map_err(fail)?;
                        todo.extend(steps(Path::new(&OsString::from_vec(target.into_bytes()))));
                    }
                }
            }
        }
    }
    stack.pop().map(|dir| dir.try_clone().map_err(fail)).transpose()
}

/// A path's components, last first; an absolute one ends with `/`.
fn steps(path: &Path) -> Vec<OsString> {
    let step = |component| match component {
        Component::CurDir | Component::Prefix(_) => None,
        other => Some(other.as_os_str().to_owned()),
    };
    path.components().rev().filter_map(step).collect()
}
