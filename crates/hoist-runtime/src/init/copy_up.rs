//! `tmpcopyup`: what the image has at the place of a tmpfs is copied into the tmpfs. Follows no links; keeps owner, mode,
//! times and extended attributes. The tmpfs' own size bounds it.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// Directories may nest this deep.
const MAX_DEPTH: u32 = 128;
/// Largest extended attribute (xattr(7)).
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;

/// Copies what is in the directory `from`, and the directory's own owner and times, to the directory `to`.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let from = open_directory(from, c".")?;
    let to = open_directory(to, c".")?;
    copy_directory(&from, &to, MAX_DEPTH)
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> io::Result<()> {
    if depth == 0 {
        return Err(Errno::NAMETOOLONG.into());
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let (below, target) = (open_directory(from.as_fd(), name)?, open_directory(to.as_fd(), name)?);
                copy_directory(&below, &target, depth - 1)?;
            }
            FileType::RegularFile => copy_file(from, to, name)?,
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&link, to, name)?;
                own_named(to, name, &stat)?;
            }
            // A socket is nothing without the process that listens on it.
            FileType::Socket => {}
            kind => {
                rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                own_named(to, name, &stat)?;
            }
        }
    }
    let stat = rustix::fs::fstat(from)?;
    copy_attributes(from, to, &stat)
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?);
    let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut target = File::from(rustix::fs::openat(to, name, create, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut target)?;
    let stat = rustix::fs::fstat(&source)?;
    copy_attributes(&source, &target, &stat)
}

fn copy_attributes(from: impl AsFd, to: impl AsFd, stat: &Stat) -> io::Result<()> {
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_extended_attributes(from.as_fd(), to.as_fd())?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn own_named(directory: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (user, group) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_extended_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; MAX_ATTRIBUTE_BYTES];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let mut value = vec![0; MAX_ATTRIBUTE_BYTES];
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // tmpfs knows fewer kinds than other filesystems.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_with_modes_and_links_and_without_following_them() {
        let base = std::env::temp_dir().join(format!("hoist-copy-up-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("a/file"), "content").unwrap();
        std::fs::set_permissions(from.join("a/file"), std::fs::Permissions::from_mode(0o4751)).unwrap();
        std::fs::set_permissions(from.join("a/b"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let open = |path| File::open(path).unwrap();
        copy(open(&from).as_fd(), open(&to).as_fd()).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("a/file")).unwrap(), "content");
        let metadata = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(metadata("a/file").mode() & 0o7777, 0o4751);
        assert_eq!(metadata("a/b").mode() & 0o7777, 0o1777);
        assert!(metadata("link").is_symlink());
        assert_eq!(metadata("a/file").mtime(), std::fs::metadata(from.join("a/file")).unwrap().mtime());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
