//! Small files that must be seen whole or not at all.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

/// Writes `directory/name` so that a reader sees either the old content or the new one: a temporary file, renamed. Not
/// flushed to the disk; see [`write_durable`].
pub fn write_atomic(directory: BorrowedFd<'_>, name: &OsStr, content: &[u8], mode: u32) -> io::Result<()> {
    write_renamed(directory, name, content, mode, false)
}

/// As [`write_atomic`], and on the disk before it returns.
pub fn write_durable(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(rustix::io::Errno::INVAL)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    write_renamed(std::os::fd::AsFd::as_fd(&directory), name, content, mode, true)?;
    Ok(rustix::fs::fsync(&directory)?)
}

fn write_renamed(directory: BorrowedFd<'_>, name: &OsStr, content: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let mut temporary = name.to_os_string();
    temporary.push(".tmp");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let written = rustix::fs::openat(directory, &temporary, flags, Mode::from_raw_mode(mode))
        .map_err(io::Error::from)
        .and_then(|fd| {
            let mut file = std::fs::File::from(fd);
            file.write_all(content)?;
            if sync { file.sync_all() } else { Ok(()) }
        })
        .and_then(|()| Ok(rustix::fs::renameat(directory, &temporary, directory, name)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("hoist-file-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let directory = std::fs::File::open(&path).unwrap();
        write_atomic(directory.as_fd(), OsStr::new("a"), b"one", 0o600).unwrap();
        write_durable(&path.join("a"), b"two", 0o600).unwrap();
        std::fs::create_dir(path.join("b")).unwrap();
        assert!(write_atomic(directory.as_fd(), OsStr::new("b"), b"x", 0o600).is_err());
        assert_eq!(std::fs::read(path.join("a")).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
