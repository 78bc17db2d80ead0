//! Looking a file up in a container's layers without mounting them: upper directory first, then layers topmost first,
//! whiteouts honoured, symlinks followed inside the merged tree only. And users and groups read that way (`passwd(5)`,
//! `group(5)`), bounded.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use crate::error::{Error, Result};

/// More than any honest passwd or group file, in bytes.
const MAX_ACCOUNT_FILE_BYTES: u64 = 8 * 1024 * 1024;
const MAX_LINKS: usize = 40;

/// A user as a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Opens a regular file of the merged tree for reading; `None` if there is none.
pub(crate) fn open_file(layers: &[PathBuf], upper: &Path, path: &Path) -> Option<File> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match step(layers, upper, &path)? {
            Step::File(fd) => return Some(File::from(fd)),
            Step::Link(next) => path = next,
        }
    }
    None
}

enum Step {
    File(OwnedFd),
    Link(PathBuf),
}

/// Walks component by component; a symlink anywhere gives the path to go on with.
fn step(layers: &[PathBuf], upper: &Path, path: &Path) -> Option<Step> {
    let names: Vec<&std::ffi::OsStr> =
        path.components().filter_map(|c| if let Component::Normal(name) = c { Some(name) } else { None }).collect();
    let mut walked = PathBuf::new();
    for (index, name) in names.iter().enumerate() {
        walked.push(name);
        let (layer, kind) = find(layers, upper, &walked)?;
        let last = index + 1 == names.len();
        match kind {
            FileType::Symlink => {
                let target = read_link(layer, &walked)?;
                let base = walked.parent().unwrap_or(Path::new(""));
                let rest: PathBuf = names[index + 1..].iter().collect();
                return Some(Step::Link(clean(&base.join(target).join(rest))));
            }
            FileType::Directory if !last => {}
            FileType::RegularFile if last => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
                return open_at(layer, &walked, flags).map(Step::File);
            }
            _ => return None,
        }
    }
    None
}

/// The layer that decides about `path`, and what it is there.
fn find<'a>(layers: &'a [PathBuf], upper: &'a Path, path: &Path) -> Option<(&'a Path, FileType)> {
    for layer in std::iter::once(upper).chain(layers.iter().map(PathBuf::as_path)) {
        if let Some(fd) = open_at(layer, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
            let stat = rustix::fs::fstat(&fd).ok()?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
            return (!whiteout).then_some((layer, kind));
        }
        if hidden_below(layer, path) {
            return None;
        }
    }
    None
}

/// An opaque directory or a whiteout on the way hides lower layers.
fn hidden_below(layer: &Path, path: &Path) -> bool {
    path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).any(|ancestor| {
        let Some(fd) = open_at(layer, ancestor, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) else {
            return false;
        };
        let Ok(stat) = rustix::fs::fstat(&fd) else { return false };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == 0,
            FileType::Directory => {
                let mut value = [0_u8; 1];
                let full = layer.join(ancestor);
                rustix::fs::lgetxattr(&full, "trusted.overlay.opaque", &mut value)
                    .is_ok_and(|n| n == 1 && value[0] == b'y')
            }
            _ => true,
        }
    })
}

fn open_at(layer: &Path, path: &Path, flags: OFlags) -> Option<OwnedFd> {
    let root =
        rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // NO_SYMLINKS together with O_PATH|O_NOFOLLOW still opens a link itself when it is the last component.
    rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).ok()
}

fn read_link(layer: &Path, path: &Path) -> Option<PathBuf> {
    let fd = open_at(layer, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
    let target = rustix::fs::readlinkat(&fd, "", Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Resolves `.` and `..` by text, never above the root.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => _ = cleaned.pop(),
            Component::RootDir => cleaned.clear(),
            _ => {}
        }
    }
    cleaned
}

/// Lines of an account file, split at colons; refuses files beyond the bound.
fn rows(layers: &[PathBuf], upper: &Path, path: &str) -> Result<Vec<Vec<String>>> {
    let Some(file) = open_file(layers, upper, Path::new(path)) else { return Ok(Vec::new()) };
    let length = file.metadata().map_or(0, |m| m.len());
    if length > MAX_ACCOUNT_FILE_BYTES {
        return Err(Error::invalid(format!(
            "/{path} in the image has {length} bytes, more than the {MAX_ACCOUNT_FILE_BYTES} that are read"
        )));
    }
    let mut rows = Vec::new();
    for line in BufReader::new(file.take(MAX_ACCOUNT_FILE_BYTES)).split(b'\n') {
        let line = line.map_err(|e| Error::internal(format!("read /{path} in the image: {e}")))?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            rows.push(line.split(':').map(str::to_owned).collect());
        }
    }
    Ok(rows)
}

/// A number for a uid or gid; `Err` when it is a number, but none that an id can be.
fn number(text: &str, what: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(value) if (0..=i64::from(i32::MAX)).contains(&value) => Ok(u32::try_from(value).ok()),
        _ => Err(Error::invalid(format!("{what} {text} is not in the range 0-{}", i32::MAX))),
    }
}

/// Resolves `user[:group]` as docker does: names or numbers, groups of a named or numbered user from `/etc/group`.
pub(crate) fn account(layers: &[PathBuf], upper: &Path, text: &str) -> Result<Account> {
    if text.is_empty() && layers.is_empty() {
        return Ok(Account { uid: 0, gid: 0, groups: vec![], home: "/".to_owned() });
    }
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let passwd = rows(layers, upper, "etc/passwd")?;
    let id = if user.is_empty() { Some(0) } else { number(user, "uids and gids must be in range: uid")? };
    let field = |row: &Vec<String>, at: usize| row.get(at).cloned().unwrap_or_default();
    let found = passwd.iter().find(|row| match id {
        Some(id) => field(row, 2).parse() == Ok(id),
        None => field(row, 0) == user,
    });
    let (uid, gid, name, home) = match (found, id) {
        (Some(row), _) => {
            let uid =
                field(row, 2).parse().map_err(|_| Error::invalid(format!("bad uid of user {user} in /etc/passwd")))?;
            (uid, field(row, 3).parse().unwrap_or(0), field(row, 0), field(row, 5))
        }
        (None, Some(id)) => (id, 0, String::new(), String::new()),
        (None, None) => {
            return Err(Error::invalid(format!("unable to find user {user}: no matching entries in passwd file")));
        }
    };
    let home = if home.is_empty() { "/".to_owned() } else { home };
    if !group.is_empty() {
        let gid = self::group(layers, upper, group)?;
        return Ok(Account { uid, gid, groups: vec![gid], home });
    }
    let mut groups = vec![gid];
    if !name.is_empty() {
        for row in rows(layers, upper, "etc/group")? {
            let member = field(&row, 3).split(',').any(|m| m == name);
            if let (true, Ok(gid)) = (member, field(&row, 2).parse())
                && !groups.contains(&gid)
            {
                groups.push(gid);
            }
        }
    }
    Ok(Account { uid, gid, groups, home })
}

/// Resolves a group name or number.
pub(crate) fn group(layers: &[PathBuf], upper: &Path, text: &str) -> Result<u32> {
    if let Some(gid) = number(text, "uids and gids must be in range: gid")? {
        return Ok(gid);
    }
    rows(layers, upper, "etc/group")?
        .iter()
        .find(|row| row.first().is_some_and(|name| name == text))
        .and_then(|row| row.get(2)?.parse().ok())
        .ok_or_else(|| Error::invalid(format!("unable to find group {text}: no matching entries in group file")))
}

/// Path bytes as text for messages and wire fields.
pub(crate) fn display(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let (upper, low) = (dir.path().join("upper"), dir.path().join("low"));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(low.join("etc")).unwrap();
        std::fs::write(low.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:\n").unwrap();
        std::fs::write(low.join("etc/group"), "wheel:x:10:bob\nbob:x:1001:\n").unwrap();
        (dir, upper, vec![low])
    }

    #[test]
    fn names_and_numbers_are_resolved_with_their_groups() {
        let (_dir, upper, layers) = tree();
        let get = |text| account(&layers, &upper, text);
        let bob = Account { uid: 1000, gid: 1001, groups: vec![1001, 10], home: "/home/bob".into() };
        assert_eq!(get("bob").unwrap(), bob);
        assert_eq!(get("1000").unwrap(), bob);
        assert_eq!(get("bob:wheel").unwrap().groups, [10]);
        assert_eq!(get("5:7").unwrap().gid, 7);
        assert_eq!(get("").unwrap().home, "/root");
        for bad in ["nobody", "4294967296", "-1", "bob:none", "99999999999999999999"] {
            assert!(get(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_stay_inside_and_whiteouts_hide() {
        let (_dir, upper, layers) = tree();
        std::os::unix::fs::symlink("/../../../../etc/hostname", layers[0].join("etc/escape")).unwrap();
        assert!(open_file(&layers, &upper, Path::new("etc/escape")).is_none());
        std::os::unix::fs::symlink("etc/passwd", layers[0].join("link")).unwrap();
        assert!(open_file(&layers, &upper, Path::new("link")).is_some());
        std::fs::create_dir(upper.join("etc")).unwrap();
        rustix::fs::mknodat(CWD, upper.join("etc/passwd"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        assert!(open_file(&layers, &upper, Path::new("etc/passwd")).is_none());
    }
}
