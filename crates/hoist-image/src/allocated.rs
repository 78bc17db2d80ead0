//! What trees take on disk, as `du -x` counts: blocks rather than lengths, each file once, nothing on other file systems.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// st_blocks(2) counts in these.
const BLOCK_BYTES: u64 = 512;
/// A directory on the way down is a descriptor; what lies deeper is not looked at, as it may be there to use them all up.
const DEPTH_MAX: usize = 1024;

/// A directory that is being looked through.
struct Level {
    directory: OwnedFd,
    left: Vec<CString>,
}

/// Bytes of a file or directory itself.
pub fn own_bytes(path: &Path) -> io::Result<u64> {
    Ok(blocks(&rustix::fs::lstat(path)?))
}

/// Bytes of a tree. What vanishes meanwhile is passed over. Blocking.
pub fn bytes(path: &Path) -> io::Result<u64> {
    let root = rustix::fs::lstat(path)?;
    let mut total = blocks(&root);
    if FileType::from_raw_mode(root.st_mode) != FileType::Directory {
        return Ok(total);
    }
    let mut linked = HashSet::new();
    let mut level = |directory: OwnedFd, total: &mut u64| -> io::Result<Level> {
        let mut left = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            };
            if stat.st_dev != root.st_dev {
                continue;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                left.push(name.to_owned());
            } else if stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
                continue;
            }
            *total = total.saturating_add(blocks(&stat));
        }
        Ok(Level { directory, left })
    };
    let open = |at: &OwnedFd, name: &CString| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty())
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut levels = vec![level(rustix::fs::openat(CWD, path, flags, Mode::empty())?, &mut total)?];
    while let Some(last) = levels.last_mut() {
        let Some(name) = last.left.pop() else {
            levels.pop();
            continue;
        };
        let directory = match open(&last.directory, &name) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(e.into()),
        };
        if levels.len() < DEPTH_MAX {
            levels.push(level(directory, &mut total)?);
        } else {
            tracing::warn!(path = %path.display(), "deeper than {DEPTH_MAX} directories: not measured further down");
        }
    }
    Ok(total)
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn du(path: &Path) -> u64 {
        let told = std::process::Command::new("du").args(["-sx", "--block-size=1"]).arg(path).output().unwrap();
        String::from_utf8(told.stdout).unwrap().split('\t').next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_tree_takes_what_du_says() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        for number in 0..300 {
            fs::write(root.join(format!("a/small-{number}")), "x").unwrap();
        }
        fs::write(root.join("a/b/large"), vec![b'x'; 1_000_000]).unwrap();
        fs::hard_link(root.join("a/b/large"), root.join("a/b/c/again")).unwrap();
        fs::File::create(root.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        assert_eq!(bytes(&root).unwrap(), du(&root));
        assert!(bytes(&root).unwrap() < 10_000_000);
        assert_eq!(bytes(&root.join("link")).unwrap(), du(&root.join("link")));
        assert!(bytes(&root.join("nothing")).is_err());
        assert!(own_bytes(&root).unwrap() < bytes(&root).unwrap());
    }
}
