//! Copying a merged directory to disk: files, links, hard links, devices, owners, modes, times, xattrs, holes.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chownat, copy_file_range, fstat,
    linkat, mkdirat, mknodat, openat, readlinkat, seek, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::Error;
use crate::merged::{Entry, MergedDir};

/// Deeper trees are no honest image's; each level holds file descriptors open.
const MAX_DEPTH: usize = 256;

/// Copies the content of `source` and its own attributes to the existing empty directory `to`.
pub(crate) fn copy_tree(source: MergedDir, to: &Path) -> Result<(), Error> {
    let root = rustix::fs::open(to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Other(format!("open {}: {errno}", to.display())))?;
    let mut copy = Copy { root: &root, linked: HashMap::new(), at: PathBuf::new() };
    copy.directory(&source, root.as_fd(), 0).map_err(|errno| {
        let path = to.join(&copy.at);
        Error::Other(format!("copy the image's content to {}: {errno}", path.display()))
    })
}

struct Copy<'a> {
    root: &'a OwnedFd,
    /// Where the first name of a file with several names went, by device and inode of the layer's file.
    linked: HashMap<(u64, u64), PathBuf>,
    /// What is being copied, relative to the root: for links and for errors.
    at: PathBuf,
}

impl Copy<'_> {
    fn directory(&mut self, source: &MergedDir, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        for name in source.names()? {
            self.at.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
            match source.lookup(&name)? {
                None => {}
                Some(Entry::Dir(dir)) => {
                    mkdirat(to, &name, Mode::RWXU)?;
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let inner = openat(to, &name, flags, Mode::empty())?;
                    self.directory(&dir, inner.as_fd(), depth + 1)?;
                }
                Some(Entry::Other { parent, stat }) => self.entry(parent, &name, &stat, to)?,
            }
            self.at.pop();
        }
        // Last: filling a directory changes its times.
        match source.top() {
            Some(top) => attributes(top, to, &fstat(top)?),
            None => Ok(()),
        }
    }

    fn entry(&mut self, parent: &OwnedFd, name: &CString, stat: &Stat, to: BorrowedFd<'_>) -> Result<(), Errno> {
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&key) {
                return linkat(self.root, first, to, name, AtFlags::empty());
            }
            self.linked.insert(key, self.at.clone());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let source = openat(parent, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let target = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
                content(&source, &target, u64::try_from(stat.st_size).unwrap_or(0))?;
                attributes(&source, target.as_fd(), stat)
            }
            FileType::Symlink => {
                symlinkat(&readlinkat(parent, name, Vec::new())?, to, name)?;
                unopened(parent, name, stat, to)
            }
            kind => {
                mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?;
                unopened(parent, name, stat, to)
            }
        }
    }
}

/// Copies the data of a file, keeping its holes; the kernel shares extents where the filesystem can.
fn content(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(size);
        at = end;
        let (mut read_at, mut write_at) = (start, start);
        while read_at < end {
            let wanted = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
            match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), wanted) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    copy_through_memory(from, to, read_at, end)?;
                    break;
                }
                Err(errno) => return Err(errno),
            }
        }
    }
    rustix::fs::ftruncate(to, size)
}

fn copy_through_memory(from: &OwnedFd, to: &OwnedFd, mut at: u64, end: u64) -> Result<(), Errno> {
    let mut buffer = vec![0; 64 * 1024];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = rustix::io::pread(from, &mut buffer[..wanted], at)?;
        if got == 0 {
            break;
        }
        let mut written = 0;
        while written < got {
            written += rustix::io::pwrite(to, &buffer[written..got], at + written as u64)?;
        }
        at += got as u64;
    }
    Ok(())
}

/// Owner, mode, xattrs and times of an open file or directory. The owner comes first: chown(2) clears set-id bits and
/// capabilities.
fn attributes(from: &OwnedFd, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    xattrs(&proc_path(from.as_fd()), &proc_path(to))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    rustix::fs::futimens(to, &times(stat))
}

/// The same for what cannot be opened: links, devices, sockets, fifos.
fn unopened(parent: &OwnedFd, name: &CStr, stat: &Stat, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    chownat(to, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), nofollow)?;
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (source, target) = (openat(parent, name, path, Mode::empty())?, openat(to, name, path, Mode::empty())?);
    xattrs(&proc_path(source.as_fd()), &proc_path(target.as_fd()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    utimensat(to, name, &times(stat), nofollow)
}

/// Attributes of a directory in the volume for another: both are ours, so names do.
pub(crate) fn copy_attributes(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::open(from, directory, Mode::empty())?;
    let to = rustix::fs::open(to, directory, Mode::empty())?;
    // The copy's own times changed as it was emptied; owner, mode and xattrs did not.
    let mut stat = fstat(&from)?;
    (stat.st_mtime, stat.st_mtime_nsec) = (meta.mtime(), u64::try_from(meta.mtime_nsec()).unwrap_or(0));
    (stat.st_atime, stat.st_atime_nsec) = (meta.atime(), u64::try_from(meta.atime_nsec()).unwrap_or(0));
    Ok(attributes(&from, to.as_fd(), &stat)?)
}

/// Copies all xattrs but overlay's own. By magic link: `O_PATH` descriptors know no fgetxattr(2).
fn xattrs(from: &str, to: &str) -> Result<(), Errno> {
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::listxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut value = vec![0u8; if length == 0 { 0 } else { 64 * 1024 }];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let bytes = name.to_bytes();
        if bytes.starts_with(b"trusted.overlay.") || bytes.starts_with(b"user.overlay.") {
            continue;
        }
        let got = rustix::fs::getxattr(from, name, &mut value)?;
        match rustix::fs::setxattr(to, name, &value[..got], rustix::fs::XattrFlags::empty()) {
            // A filesystem without this kind of xattr, or a label that the security module owns.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(_) if bytes == b"security.selinux" => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn times(stat: &Stat) -> Timestamps {
    let nanoseconds = |n: u64| i64::try_from(n).unwrap_or(0);
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: nanoseconds(stat.st_atime_nsec) },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds(stat.st_mtime_nsec) },
    }
}
