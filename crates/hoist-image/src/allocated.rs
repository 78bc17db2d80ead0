//! What trees take on disk, as `du -x` counts: blocks rather than lengths, each file once, nothing on other file systems.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The field `st_blocks` counts in these, stat(3type).
const BLOCK_BYTES: u64 = 512;
/// A directory on the way down is a descriptor; what lies deeper is not looked at, as it may be there to use them all up.
const DEPTH_MAX: usize = 1024;

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
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    // Descended into as they are met: a directory's names are not kept, as they may be many.
    let mut levels = vec![Dir::new(directory)?];
    let mut linked = HashSet::new();
    let mut left_out = 0_usize;
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { break };
        let Some(entry) = level.read() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let directory = level.fd()?;
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_dev != root.st_dev || (!is_directory && stat.st_nlink > 1 && !linked.insert(stat.st_ino)) {
            continue;
        }
        total = total.saturating_add(blocks(&stat));
        if !is_directory {
            continue;
        }
        if depth >= DEPTH_MAX {
            left_out += 1;
            continue;
        }
        match rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(below) => levels.push(Dir::new(below)?),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    if left_out > 0 {
        tracing::warn!(
            path = %path.display(),
            "{left_out} directories lie deeper than {DEPTH_MAX}: not measured further down"
        );
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
