//! Masked paths (hidden behind /dev/null or an empty directory) and read-only paths.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoist_sys::mount::{Change, attribute};
use hoist_sys::rootfs::{self, Kind};
use rustix::fs::OFlags;
use rustix::mount::FsOpenFlags;

use super::mounts::{bind_fd, finish};
use super::{Context, attach, open_host};
use crate::failure::{OrFail, Result};
use crate::kit::Kit;

const READ_ONLY: Change = Change { set: attribute::READ_ONLY, clear: 0, propagation: None, recursive: true };

pub(super) fn apply(context: &Context<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let Some(linux) = context.spec().linux() else { return Ok(()) };
    for path in linux.readonly_paths().iter().flatten() {
        let Some(target) = open_existing(root, path).or_fail(|| format!("open readonly path {path}"))? else {
            continue;
        };
        bind_fd(target.as_fd(), target.as_fd(), READ_ONLY).or_fail(|| format!("make {path} read-only"))?;
    }
    let mut covers = Covers { null: None, empty: None, ready: context.kit.and_then(Kit::empty) };
    for path in linux.masked_paths().iter().flatten() {
        let Some(target) = open_existing(root, path).or_fail(|| format!("open masked path {path}"))? else { continue };
        covers.cover(target.as_fd()).or_fail(|| format!("mask {path}"))?;
    }
    Ok(())
}

/// Paths that this kernel does not have are none to protect.
fn open_existing(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    match rootfs::open_in_root(root, Path::new(path), OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What masked paths are covered with; made once, cloned for each.
struct Covers<'a> {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    /// Not yet attached.
    ready: Option<BorrowedFd<'a>>,
}

impl Covers<'_> {
    fn cover(&mut self, target: BorrowedFd<'_>) -> io::Result<()> {
        match (rootfs::kind_of(target)?, &self.empty) {
            (Kind::File, _) => {
                if self.null.is_none() {
                    self.null = Some(host_null()?);
                }
                // /dev/null must stay writable.
                self.null.as_ref().map_or(Ok(()), |null| bind_fd(null.as_fd(), target, Change::default()))
            }
            (Kind::Directory, Some(empty)) => bind_fd(empty.as_fd(), target, Change::default()),
            // The first one is attached itself: a detached mount that is closed costs an RCU grace period.
            (Kind::Directory, None) => {
                let ready = self.ready.take().map(|ready| ready.try_clone_to_owned());
                attach(self.empty.insert(ready.unwrap_or_else(empty_directory)?).as_fd(), target)
            }
        }
    }
}

/// The host's /dev/null, never the container's: that one may have been replaced.
fn host_null() -> io::Result<OwnedFd> {
    let null = open_host(Path::new("/dev/null"), OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&null)?;
    let is_null = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(io::Error::other("/dev/null of the host is no null device")) }
}

/// A read-only directory with nothing in it, detached.
pub(crate) fn empty_directory() -> io::Result<OwnedFd> {
    empty_tmpfs("tmpfs")
}

/// A read-only tmpfs of no size, detached. Tables of mounts show its source.
pub(crate) fn empty_tmpfs(source: &str) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", source)?;
    rustix::mount::fsconfig_set_string(&context, "size", "0k")?;
    finish(context.as_fd(), Change { set: attribute::READ_ONLY, ..Change::default() })
}
