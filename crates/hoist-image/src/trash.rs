//! Removing trees of any depth with few fds and no recursion. Owns no state.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self as sys, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Empties a directory: each subdirectory found on the way is first moved up to it, so that a tree of any depth is
/// never more than one level deep when its turn comes. Returns the bytes of the files that went.
pub(crate) fn empty(directory: &Path) -> io::Result<u64> {
    let root = open(rustix::fs::CWD, directory.as_os_str().as_encoded_bytes())?;
    let mut counter = 0_u64;
    let mut bytes = 0;
    loop {
        let mut found = false;
        for entry in Dir::read_from(&root)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            found = true;
            let stat = sys::statat(&root, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                bytes = u64::saturating_add(bytes, flatten(&root, name, &mut counter)?);
                sys::unlinkat(&root, name, AtFlags::REMOVEDIR)?;
            } else {
                bytes = u64::saturating_add(bytes, bytes_freed(&stat));
                sys::unlinkat(&root, name, AtFlags::empty())?;
            }
        }
        if !found {
            return Ok(bytes);
        }
    }
}

/// Unlinks the files of one directory and moves its subdirectories up to `root`.
fn flatten(root: &OwnedFd, name: &[u8], counter: &mut u64) -> io::Result<u64> {
    let directory = open(root, name)?;
    let mut bytes = 0;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let stat = sys::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            move_up(&directory, name, root, counter)?;
        } else {
            bytes = u64::saturating_add(bytes, bytes_freed(&stat));
            sys::unlinkat(&directory, name, AtFlags::empty())?;
        }
    }
    Ok(bytes)
}

fn move_up(from: &OwnedFd, name: &[u8], root: &OwnedFd, counter: &mut u64) -> io::Result<()> {
    loop {
        *counter += 1;
        let free = format!(".hoist-trash-{counter}");
        match sys::renameat_with(from, name, root, free, sys::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
}

fn open(at: impl std::os::fd::AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(sys::openat(at, name, flags, Mode::empty())?)
}

/// Bytes of a file that go with this name of it: none while another name stays.
pub(crate) fn bytes_freed(stat: &Stat) -> u64 {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if is_directory || stat.st_nlink > 1 { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_path_max_goes() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().join("top");
        std::fs::create_dir(&top).unwrap();
        let mut here = open(rustix::fs::CWD, top.as_os_str().as_encoded_bytes()).unwrap();
        let name = "d".repeat(30);
        for _ in 0..200 {
            sys::mkdirat(&here, &name, Mode::from_raw_mode(0o755)).unwrap();
            std::fs::write(format!("/proc/self/fd/{}/f", std::os::fd::AsRawFd::as_raw_fd(&here)), "12").unwrap();
            here = open(&here, name.as_bytes()).unwrap();
        }
        drop(here);
        assert_eq!(empty(&top).unwrap(), 400);
        std::fs::remove_dir(&top).unwrap();
    }
}
