//! Reading and writing the small files of a cgroup directory, with errors that name file and value; removing directories.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hoist_sys::errno_text;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Longest file that is read: `memory.stat` has some kilobytes, `cgroup.procs` of a fork bomb may have more.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A group's directory in one hierarchy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dir<'a>(pub(super) &'a Path);

impl Dir<'_> {
    pub(super) fn has(self, file: &str) -> bool {
        rustix::fs::access(self.0.join(file), rustix::fs::Access::EXISTS).is_ok()
    }

    /// Writes a value in one write(2), as the kernel wants it.
    pub(super) fn write(self, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
        let value = value.to_string();
        self.write_raw(file, &value).map_err(|error| self.describe_write(file, &value, error.into()))
    }

    /// The same, telling the caller the errno first: some are expected.
    pub(super) fn try_write(self, file: &str, value: impl std::fmt::Display) -> Result<(), (Errno, io::Error)> {
        let value = value.to_string();
        self.write_raw(file, &value).map_err(|errno| (errno, self.describe_write(file, &value, errno.into())))
    }

    fn write_raw(self, file: &str, value: &str) -> Result<(), Errno> {
        let file = self.open_raw(file)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes())).map(drop)
    }

    fn open_raw(self, file: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::open(self.0.join(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// For values that are written later.
    pub(super) fn open_for_writing(self, file: &str) -> io::Result<OwnedFd> {
        self.open_raw(file).map_err(|errno| {
            let error = io::Error::from(errno);
            io::Error::new(error.kind(), format!("failed to open {:?}: {}", self.0.join(file), errno_text(&error)))
        })
    }

    /// Writes each value to the same file, which is opened once.
    pub(super) fn write_each(self, file: &str, values: &[String]) -> io::Result<()> {
        let Some(first) = values.first() else { return Ok(()) };
        let mut open = OpenOptions::new()
            .write(true)
            .open(self.0.join(file))
            .map_err(|error| self.describe_write(file, first, error))?;
        for value in values {
            open.write_all(value.as_bytes()).map_err(|error| self.describe_write(file, value, error))?;
        }
        Ok(())
    }

    pub(super) fn read(self, file: &str) -> io::Result<String> {
        let path = self.0.join(file);
        read_bounded(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("failed to read {path:?}: {}", errno_text(&error))))
    }

    /// A file with one number; `max` is `u64::MAX`.
    pub(super) fn read_u64(self, file: &str) -> io::Result<u64> {
        let text = self.read(file)?;
        parse_u64(&text).ok_or_else(|| io::Error::other(format!("no number in {:?}: {text:?}", self.0.join(file))))
    }

    pub(super) fn describe_write(self, file: &str, value: &str, error: io::Error) -> io::Error {
        let path = self.0.join(file);
        let mut message = format!("failed to write {value:?} to {path:?}: {}", errno_text(&error));
        if error.kind() == io::ErrorKind::NotFound && self.0.is_dir() {
            let controller = file.split('.').next().unwrap_or(file);
            message.push_str(&format!(" (this kernel or hierarchy does not offer it to the {controller} controller)"));
        }
        io::Error::new(error.kind(), message)
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

pub(super) fn parse_u64(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// A missing file reads as empty.
pub(super) fn unless_missing(text: io::Result<String>) -> io::Result<String> {
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// `key value` lines.
pub(super) fn key_values(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, parse_u64(value)?))
    })
}

/// Process ids listed in a group's directory and in every directory below it.
pub(super) fn pids_below(directory: &Path, pids: &mut Vec<i32>) -> io::Result<()> {
    let read = |file: &str| Dir(directory).read(file);
    let text = match read("cgroup.procs") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A threaded group refuses to list processes (cgroups(7)).
        Err(error) => read("cgroup.threads").map_err(|_| error)?,
    };
    // 0 stands for a process outside of our pid namespace.
    pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|&pid: &i32| pid > 0));
    for child in directories(directory)? {
        pids_below(&child, pids)?;
    }
    Ok(())
}

pub(super) fn directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect())
}

/// Removes a group that should be empty: at once if that works, else groups below it first, then again while the
/// kernel is still busy with the last process's end. Gives up after about a second.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    for attempt in 0..14_u32 {
        match rustix::fs::rmdir(directory) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => {
                let text = errno_text(&errno.into());
                return Err(io::Error::new(errno.kind(), format!("failed to remove cgroup {directory:?}: {text}")));
            }
        }
        if attempt == 0 {
            for child in directories(directory)? {
                remove_tree(&child)?;
            }
        } else {
            sleep(Duration::from_millis(1 << (attempt - 1).min(7)));
        }
    }
    let message = format!("failed to remove cgroup {directory:?}: it still has processes");
    Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
}

/// SIGKILL to each; those that are gone do not matter.
pub(super) fn kill_each(pids: &[i32]) {
    for &pid in pids {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
