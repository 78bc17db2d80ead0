//! Holding an unpacked layer against its record: every file's bytes, every entry's kind, owner, mode, time and attributes,
//! nothing that the layer did not bring; and the record itself against the layer's digest. Changes nothing.

mod replay;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{self as sys, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::place::{self, Root};
use super::stream::{Entry, Kind, TarStream};
use super::{DEPTH_MAX, Marker, confine, marker, split};
use replay::Replay;

/// More damage than this is not listed: the layer is as good as lost.
const LISTED_MAX: usize = 100;
/// SELinux relabels what it likes.
const FOREIGN_ATTRIBUTES: [&[u8]; 1] = [b"security.selinux"];

/// One thing about a layer that is not as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Below the layer's root, without a slash in front; empty for the layer's own record.
    pub path: String,
    /// What is wrong, in words that go on from the path: `is missing`.
    pub what: String,
}

/// What is found on the way, shared by the reader of the record and the one of the tar that it yields.
#[derive(Debug, Default)]
struct Findings {
    listed: Vec<Damage>,
    more: usize,
}

impl Findings {
    fn add(&mut self, path: &[u8], what: impl Into<String>) {
        let path = String::from_utf8_lossy(path);
        if !path.is_empty() && self.listed.iter().any(|damage| damage.path == path) {
            return;
        }
        if self.listed.len() == LISTED_MAX {
            self.more += 1;
            return;
        }
        self.listed.push(Damage { path: path.into_owned(), what: what.into() });
    }
}

/// Checks the layer `diff_id`, whose files are in `content`. Empty: it is as it came. An error says that looking failed.
pub(crate) fn verify(record: &Path, content: &Path, diff_id: &str) -> io::Result<Vec<Damage>> {
    let findings = Rc::new(RefCell::new(Findings::default()));
    let last = match check(record, content, diff_id, &findings, None) {
        // The layer replaces files of its own: only the last entry of each name is on disk.
        Err(Halt::Replaces) => {
            *findings.borrow_mut() = Findings::default();
            Some(last_entries(record, content)?)
        }
        Err(Halt::Failed(e)) => return tell_or_fail(e, &findings),
        Ok(()) => None,
    };
    if let Some(last) = last {
        match check(record, content, diff_id, &findings, Some(&last)) {
            Err(Halt::Failed(e)) => return tell_or_fail(e, &findings),
            Ok(()) | Err(Halt::Replaces) => {}
        }
    }
    let mut findings = findings.take();
    if findings.more > 0 {
        let what = format!("{} more files are not as they came", findings.more);
        findings.listed.push(Damage { path: String::new(), what });
    }
    Ok(findings.listed)
}

/// A record that cannot be read is damage; anything else that fails is a failure.
fn tell_or_fail(error: io::Error, findings: &RefCell<Findings>) -> io::Result<Vec<Damage>> {
    use io::ErrorKind as K;
    match error.kind() {
        K::InvalidData | K::UnexpectedEof | K::NotFound | K::Other => {
            let mut findings = findings.take();
            findings.add(b"", format!("the layer's record cannot be read: {error}"));
            Ok(findings.listed)
        }
        _ => Err(error),
    }
}

enum Halt {
    /// A name came twice.
    Replaces,
    Failed(io::Error),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Halt {
        Halt::Failed(error)
    }
}

/// For each name, which of the tar's entries was the last.
type LastEntries = HashMap<[u8; 16], (u64, bool)>;

fn key(path: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&Sha256::digest(path)[..16]);
    key
}

fn last_entries(record: &Path, content: &Path) -> io::Result<LastEntries> {
    let findings = Rc::new(RefCell::new(Findings::default()));
    let mut stream = TarStream::new(Replay::open(record, content, findings)?);
    let mut last = LastEntries::new();
    let mut position = 0;
    while let Some(entry) = stream.next_entry()? {
        last.insert(key(&confine(&entry.path)?), (position, entry.kind == Kind::Directory));
        position += 1;
    }
    Ok(last)
}

/// Whether the entry at `position`, or a directory above it, was replaced later.
fn is_replaced(last: &LastEntries, path: &[u8], position: u64) -> bool {
    if last.get(&key(path)).is_some_and(|(at, _)| *at != position) {
        return true;
    }
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    above.into_iter().any(|above| last.get(&key(above)).is_some_and(|(at, directory)| *at > position && !directory))
}

fn check(
    record: &Path,
    content: &Path,
    diff_id: &str,
    findings: &Rc<RefCell<Findings>>,
    last: Option<&LastEntries>,
) -> Result<(), Halt> {
    let replay = Replay::open(record, content, findings.clone())?;
    let whole = replay.whole.clone();
    let mut checker = Checker {
        root: Root::open(content, content)?,
        findings: findings.clone(),
        seen: HashSet::new(),
        inodes: HashSet::new(),
        directories: HashMap::new(),
        buffer: vec![0; 128 * 1024],
    };
    let mut stream = TarStream::new(replay);
    let mut position = 0;
    while let Some(entry) = stream.next_entry()? {
        let path = confine(&entry.path)?;
        let fresh = checker.seen.insert(key(&path)) || entry.kind == Kind::Directory;
        match last {
            None if !fresh => return Err(Halt::Replaces),
            Some(last) if is_replaced(last, &path, position) => {}
            _ => checker.entry(&entry, path, &mut stream)?,
        }
        position += 1;
    }
    stream.drain()?;
    checker.directories()?;
    checker.strays()?;
    let mut findings = findings.borrow_mut();
    if findings.listed.is_empty() && crate::digest::finish(whole.take()) != diff_id {
        findings.add(b"", "the layer's record does not give the layer's digest");
    }
    Ok(())
}

struct Checker {
    root: Root,
    findings: Rc<RefCell<Findings>>,
    seen: HashSet<[u8; 16]>,
    /// Of everything that is where it should be.
    inodes: HashSet<u64>,
    /// What the last entry of each directory said.
    directories: HashMap<Vec<u8>, Entry>,
    buffer: Vec<u8>,
}

impl Checker {
    fn entry(&mut self, entry: &Entry, path: Vec<u8>, stream: &mut TarStream<Replay>) -> io::Result<()> {
        if entry.kind == Kind::Directory {
            self.directories.insert(path, entry.clone());
            return Ok(());
        }
        let Some((parent, name)) = split(&path) else { return Ok(()) };
        let Ok(parent) = self.root.existing_directory(parent) else { return self.tell(&path, "is missing") };
        let Some(stat) = stat(&parent, name)? else {
            return match marker(name) {
                Some(marker) => self.marked(&path, &parent, marker),
                None => self.tell(&path, "is missing"),
            };
        };
        self.inodes.insert(stat.st_ino);
        match entry.kind {
            Kind::Hardlink => return self.hard_link(entry, &path, &stat),
            Kind::File if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                self.content(entry, &path, (&parent, name), stream)?;
            }
            _ => {}
        }
        match difference(entry, &parent, name, &stat)? {
            Some(what) => self.tell(&path, what),
            None => Ok(()),
        }
    }

    /// Bytes that the record holds itself; those that it only has the digest of were checked when they were read.
    fn content(
        &mut self,
        entry: &Entry,
        path: &[u8],
        (parent, name): (&OwnedFd, &[u8]),
        stream: &mut TarStream<Replay>,
    ) -> io::Result<()> {
        if entry.payload_bytes == 0 || stream.reader().is_in_file() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(sys::openat(parent, name, flags, Mode::empty())?);
        let whole = [super::sparse::Segment { offset: 0, length: entry.payload_bytes }];
        let segments = entry.sparse.as_ref().map_or(&whole[..], |sparse| &sparse.segments);
        for segment in segments {
            let mut offset = segment.offset;
            let mut payload = stream.take(segment.length);
            loop {
                let count = payload.read(&mut self.buffer)?;
                if count == 0 {
                    break;
                }
                let mut there = vec![0; count];
                if std::os::unix::fs::FileExt::read_exact_at(&file, &mut there, offset).is_err()
                    || there != self.buffer[..count]
                {
                    return self.tell(path, "has other bytes");
                }
                offset += count as u64;
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: &[u8], found: &Stat) -> io::Result<()> {
        let target = confine(&entry.link)?;
        let other = split(&target).and_then(|(parent, name)| {
            let parent = self.root.existing_directory(parent).ok()?;
            stat(&parent, name).ok()?
        });
        match other {
            Some(other) if other.st_ino == found.st_ino => Ok(()),
            _ => self.tell(path, format!("is not the file {}", String::from_utf8_lossy(&target))),
        }
    }

    fn marked(&mut self, path: &[u8], parent: &OwnedFd, marker: Marker<'_>) -> io::Result<()> {
        let hides = match marker {
            Marker::Foreign => true,
            Marker::Opaque => place::is_opaque(parent)?,
            Marker::Hides(hidden) => {
                let hiding = stat(parent, hidden)?;
                self.inodes.extend(hiding.map(|hiding| hiding.st_ino));
                hiding.is_some()
            }
        };
        if hides { Ok(()) } else { self.tell(path, "hides nothing any more") }
    }

    fn directories(&mut self) -> io::Result<()> {
        for (path, entry) in std::mem::take(&mut self.directories) {
            let Some((parent, name)) = split(&path) else { continue };
            let found = match self.root.existing_directory(parent) {
                Ok(parent) => stat(&parent, name)?.map(|stat| (parent, stat)),
                Err(_) => None,
            };
            let what = match found {
                Some((parent, stat)) => difference(&entry, &parent, name, &stat)?,
                None => Some("is missing".to_owned()),
            };
            if let Some(what) = what {
                self.tell(&path, what)?;
            }
        }
        Ok(())
    }

    /// What the layer did not bring. Directories may come from a longer name in the tar.
    fn strays(&mut self) -> io::Result<()> {
        let top = self.root.existing_directory(b"")?;
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            let place: &[u8] = if path.is_empty() { b"." } else { &path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = sys::openat(&top, place, flags, Mode::empty())?;
            for entry in Dir::read_from(&directory)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let path = if path.is_empty() { name.to_vec() } else { [path.as_slice(), name].join(&b'/') };
                let Some(stat) = stat(&directory, name)? else { continue };
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    if path.iter().filter(|byte| **byte == b'/').count() < DEPTH_MAX {
                        pending.push(path);
                    }
                } else if !self.inodes.contains(&stat.st_ino) {
                    self.tell(&path, "does not belong to the layer")?;
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, path: &[u8], what: impl Into<String>) -> io::Result<()> {
        self.findings.borrow_mut().add(path, what);
        Ok(())
    }
}

fn stat(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match sys::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What about an object is not as its entry says.
fn difference(entry: &Entry, parent: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<Option<String>> {
    let wanted = match entry.kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Char => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Hardlink => return Ok(None),
    };
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        return Ok(Some("is of another kind".to_owned()));
    }
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        return Ok(Some(format!("belongs to {uid}:{gid} instead of {}:{}", entry.uid, entry.gid)));
    }
    if wanted != FileType::Symlink && stat.st_mode & 0o7777 != entry.mode {
        return Ok(Some(format!("has mode {:04o} instead of {:04o}", stat.st_mode & 0o7777, entry.mode)));
    }
    let length = entry.sparse.as_ref().map_or(entry.payload_bytes, |sparse| sparse.real_bytes);
    if wanted == FileType::RegularFile && u64::try_from(stat.st_size).ok() != Some(length) {
        return Ok(Some(format!("has {} bytes instead of {length}", stat.st_size)));
    }
    if wanted == FileType::Symlink && sys::readlinkat(parent, name, Vec::new())?.as_bytes() != entry.link {
        return Ok(Some("leads elsewhere".to_owned()));
    }
    if matches!(entry.kind, Kind::Char | Kind::Block) && stat.st_rdev != sys::makedev(entry.device.0, entry.device.1) {
        return Ok(Some("is another device".to_owned()));
    }
    if (stat.st_mtime, stat.st_mtime_nsec) != (entry.mtime.0, u64::from(entry.mtime.1)) {
        return Ok(Some("has another modification time".to_owned()));
    }
    for (key, value) in place::wanted_xattrs(entry) {
        if !FOREIGN_ATTRIBUTES.contains(&key) && !has_attribute((parent, name), key, value) {
            return Ok(Some(format!("has another attribute {}", String::from_utf8_lossy(key))));
        }
    }
    Ok(None)
}

fn has_attribute((parent, name): (&OwnedFd, &[u8]), key: &[u8], value: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(name);
    let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    let mut found = vec![0; value.len() + 1];
    match sys::lgetxattr(&path, std::ffi::OsStr::from_bytes(key), &mut found[..]) {
        Ok(length) => &found[..length] == value,
        // As when it was set: a file system without such attributes is none that lost them.
        Err(e) => matches!(e, Errno::OPNOTSUPP | Errno::PERM),
    }
}
