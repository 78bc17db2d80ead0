//! Putting one entry of a layer on disk: every call names its object by a directory fd below the layer's root and one
//! last component. Knows nothing of tar.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self as sys, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::stream::{Entry, Kind};
use crate::trash;

const OPAQUE: &str = "trusted.overlay.opaque";
/// Attributes by which overlayfs steers itself: a layer must not bring its own.
const OVERLAY_PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The directory a layer goes to.
pub(super) struct Root {
    fd: OwnedFd,
    trash: PathBuf,
    trash_fd: OwnedFd,
}

/// What stands at a name.
pub(super) struct Existing {
    pub(super) is_directory: bool,
    pub(super) is_whiteout: bool,
    /// Bytes that go when the name goes.
    bytes: u64,
}

impl Root {
    pub(super) fn open(target: &Path, trash: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root {
            fd: sys::open(target, flags, Mode::empty())?,
            trash_fd: sys::open(trash, flags, Mode::empty())?,
            trash: trash.to_owned(),
        })
    }

    /// Opens a directory of the layer; links are followed as a process whose root this is would follow them.
    pub(super) fn existing_directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            match sys::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                // A rename elsewhere on the machine can make the kernel give up on `..` (openat2(2), EAGAIN).
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Like [`Root::existing_directory`], making what is missing with root's ownership and mode 0755.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        match self.existing_directory(path) {
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => return self.directory_for_whiteout(path),
            other => return Ok(other?),
        }
        let (parent, name) = super::split(path).ok_or(io::ErrorKind::NotFound)?;
        let parent = self.directory(parent)?;
        make_directory(&parent, name)?;
        self.existing_directory(path).map_err(|e| {
            // A link to nowhere stands in the way of a directory that the tar never named.
            io::Error::new(io::Error::from(e).kind(), format!("parent directory cannot be made: {e}"))
        })
    }

    /// A name that the layer hid is a directory after all: made anew, what is below it stays hidden.
    fn directory_for_whiteout(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let (parent, name) = super::split(path).ok_or(io::ErrorKind::NotADirectory)?;
        let parent = self.directory(parent)?;
        if !look(&parent, name)?.is_some_and(|existing| existing.is_whiteout) {
            let shown = String::from_utf8_lossy(path);
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("parent {shown:?} is not a directory")));
        }
        sys::unlinkat(&parent, name, AtFlags::empty())?;
        make_directory(&parent, name)?;
        mark_opaque(&parent, name)?;
        Ok(self.existing_directory(path)?)
    }

    /// Opens a regular file of the layer for reading.
    pub(super) fn file(&self, parent: &[u8], name: &[u8]) -> io::Result<File> {
        let parent = self.existing_directory(parent)?;
        // Not blocking on a fifo that stands where a file was.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(sys::openat(&parent, name, flags, Mode::empty())?))
    }

    /// Removes what stands at `name`, whole trees included. Returns the bytes freed.
    pub(super) fn remove(&self, parent: &OwnedFd, name: &[u8], existing: &Existing) -> io::Result<u64> {
        if !existing.is_directory {
            sys::unlinkat(parent, name, AtFlags::empty())?;
            return Ok(existing.bytes);
        }
        sys::renameat(parent, name, &self.trash_fd, "replaced")?;
        trash::empty(&self.trash)
    }
}

pub(super) fn look(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<Existing>> {
    let stat = match sys::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(Some(Existing {
        is_directory: kind == FileType::Directory,
        is_whiteout: kind == FileType::CharacterDevice && stat.st_rdev == 0,
        bytes: trash::bytes_freed(&stat),
    }))
}

/// Makes a directory, or keeps the one that is there.
pub(super) fn make_directory(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match sys::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            // mkdir(2) masks the mode with the process's umask.
            sys::chmodat(parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
            Ok(())
        }
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Makes a regular file with the payload's bytes; returns its length and the digest of what was read.
pub(super) fn make_file(
    entry: &Entry,
    parent: &OwnedFd,
    name: &[u8],
    payload: &mut dyn Read,
    buffer: &mut [u8],
) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = Sha256::new();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(sys::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
    let length = match &entry.sparse {
        Some(sparse) => {
            for segment in &sparse.segments {
                file.seek(SeekFrom::Start(segment.offset))?;
                copy(&mut payload.take(segment.length), &mut file, &mut hasher, buffer)?;
            }
            file.set_len(sparse.real_bytes)?;
            sparse.real_bytes
        }
        None => copy(payload, &mut file, &mut hasher, buffer)?,
    };
    sys::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    for (key, value) in wanted_xattrs(entry) {
        tolerate(sys::fsetxattr(&file, OsStr::from_bytes(key), value, sys::XattrFlags::empty()), key)?;
    }
    // After chown(2), which clears the set-id bits.
    sys::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
    sys::futimens(&file, &timestamps(entry.mtime))?;
    Ok((length, hasher.finalize().into()))
}

fn copy(from: &mut dyn Read, to: &mut File, hasher: &mut Sha256, buffer: &mut [u8]) -> io::Result<u64> {
    let mut total = 0;
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                hasher.update(&buffer[..count]);
                total += count as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

pub(super) fn make_symlink(target: &[u8], parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    sys::symlinkat(target, parent, name).map_err(io::Error::from)
}

pub(super) fn make_link(target_parent: &OwnedFd, target: &[u8], parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    // Without AT_SYMLINK_FOLLOW: a link to a symlink is a second name of the symlink itself.
    sys::linkat(target_parent, target, parent, name, AtFlags::empty()).map_err(io::Error::from)
}

pub(super) fn make_node(entry: &Entry, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let kind = match entry.kind {
        Kind::Char => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = sys::makedev(entry.device.0, entry.device.1);
    sys::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device).map_err(io::Error::from)
}

pub(super) fn make_whiteout(entry: &Entry, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    sys::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
    chown(entry, parent, name)
}

/// Hides what the layers below have in this directory.
pub(super) fn mark_opaque(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = sys::openat(parent, name, flags, Mode::empty())?;
    sys::fsetxattr(&directory, OPAQUE, b"y", sys::XattrFlags::empty()).map_err(io::Error::from)
}

/// Whether a directory hides what the layers below have in it.
pub(super) fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    let path = Path::new("/proc/self/fd").join(directory.as_fd().as_raw_fd().to_string());
    let mut value = [0; 2];
    match sys::getxattr(&path, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Owner, extended attributes, mode and times of anything but a regular file.
pub(super) fn set_attributes(entry: &Entry, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    chown(entry, parent, name)?;
    if !entry.xattrs.is_empty() {
        // By way of the directory's fd; lsetxattr(2) does not follow the last component.
        let path =
            Path::new("/proc/self/fd").join(parent.as_fd().as_raw_fd().to_string()).join(OsStr::from_bytes(name));
        for (key, value) in wanted_xattrs(entry) {
            tolerate(sys::lsetxattr(&path, OsStr::from_bytes(key), value, sys::XattrFlags::empty()), key)?;
        }
    }
    if entry.kind != Kind::Symlink {
        // Not followed: just made (or found to be a directory) here, in a place nobody else writes to.
        sys::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    set_time(parent, name, entry.mtime)
}

pub(super) fn set_time(parent: &OwnedFd, name: &[u8], mtime: (i64, u32)) -> io::Result<()> {
    sys::utimensat(parent, name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)
}

fn chown(entry: &Entry, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    sys::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)
}

pub(super) fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = entry.xattrs.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    pairs.filter(|(key, _)| !OVERLAY_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
}

/// A file system without such attributes, or a kernel that denies them, does not make the layer unusable.
fn tolerate(result: rustix::io::Result<()>, key: &[u8]) -> io::Result<()> {
    match result {
        Err(e @ (Errno::OPNOTSUPP | Errno::PERM)) => {
            tracing::debug!(attribute = %String::from_utf8_lossy(key), error = %e, "extended attribute not set");
            Ok(())
        }
        other => other.map_err(|e| {
            io::Error::new(io::Error::from(e).kind(), format!("attribute {}: {e}", String::from_utf8_lossy(key)))
        }),
    }
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
