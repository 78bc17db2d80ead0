//! Users and groups of a container, from its own passwd and group files: bounded, and without any libc look-up.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{FileType, Mode, OFlags};

/// More of a passwd or group file than this is not read; that is an error, not a cut.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Highest number that is a valid id.
const MAX_ID: i64 = i32::MAX as i64;

/// A process's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups. The primary one is among them: files that deny it something must not be open to who has
    /// dropped it (CVE-2022-36109).
    pub additional_gids: Vec<u32>,
    pub home: String,
    /// Name in the passwd file, where it has one.
    pub name: Option<String>,
}

/// Why a user could not be resolved; texts as Docker's clients see them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    #[error("{0} file is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge(&'static str),
    #[error("read {0} file: {1}")]
    Read(&'static str, std::io::Error),
}

/// Resolves `user`, `uid`, `user:group` or `""` (the superuser) as runc does, and the groups named in `additional`
/// (`--group-add`). A number that is in no file is taken as it is; a name must be found.
pub fn resolve(passwd: impl Read, group: impl Read, user: &str, additional: &[String]) -> Result<User, Error> {
    let passwd = read_bounded(passwd, "passwd")?;
    let group = read_bounded(group, "group")?;
    let (user_part, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, group),
        None => (user, ""),
    };
    let number = parse_number(user_part)?;
    let entry = entries(&passwd).find(|fields| match number {
        _ if user_part.is_empty() => id(fields, 2) == Some(0),
        Some(number) => field(fields, 0) == user_part.as_bytes() || id(fields, 2) == Some(number),
        None => field(fields, 0) == user_part.as_bytes(),
    });
    let mut resolved = match (&entry, number) {
        (Some(fields), _) => User {
            uid: id(fields, 2).ok_or(Error::Range)?,
            gid: id(fields, 3).ok_or(Error::Range)?,
            additional_gids: Vec::new(),
            home: String::from_utf8_lossy(field(fields, 5)).into_owned(),
            name: Some(String::from_utf8_lossy(field(fields, 0)).into_owned()),
        },
        (None, Some(uid)) => User { uid, ..superuser() },
        (None, None) if user_part.is_empty() => superuser(),
        (None, None) => return Err(Error::NoSuchUser(user_part.to_owned())),
    };
    if group_part.is_empty() {
        if let Some(name) = resolved.name.as_deref().map(str::as_bytes) {
            let member = |fields: &Vec<&[u8]>| field(fields, 3).split(|byte| *byte == b',').any(|one| one == name);
            resolved.additional_gids = entries(&group).filter(member).filter_map(|fields| id(&fields, 2)).collect();
        }
    } else {
        resolved.gid = group_id(&group, group_part)?;
    }
    if !resolved.additional_gids.contains(&resolved.gid) {
        resolved.additional_gids.insert(0, resolved.gid);
    }
    for name in additional {
        let gid = group_id(&group, name)?;
        if !resolved.additional_gids.contains(&gid) {
            resolved.additional_gids.push(gid);
        }
    }
    Ok(resolved)
}

fn superuser() -> User {
    User { uid: 0, gid: 0, additional_gids: Vec::new(), home: "/".to_owned(), name: None }
}

/// `None`: not a number at all, so a name.
fn parse_number(text: &str) -> Result<Option<u32>, Error> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // A number beyond i64 is still a number, never a name.
    match text.parse::<i64>() {
        Ok(number @ 0..=MAX_ID) => Ok(Some(number as u32)),
        _ => Err(Error::Range),
    }
}

fn group_id(group: &[u8], wanted: &str) -> Result<u32, Error> {
    let number = parse_number(wanted)?;
    let named = entries(group).find(|fields| field(fields, 0) == wanted.as_bytes()).and_then(|fields| id(&fields, 2));
    named.or(number).ok_or_else(|| Error::NoSuchGroup(wanted.to_owned()))
}

fn read_bounded(file: impl Read, what: &'static str) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(|error| Error::Read(what, error))?;
    if content.len() as u64 > MAX_FILE_BYTES { Err(Error::TooLarge(what)) } else { Ok(content) }
}

fn entries(content: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    content
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn field<'a>(fields: &[&'a [u8]], index: usize) -> &'a [u8] {
    fields.get(index).copied().unwrap_or_default()
}

fn id(fields: &[&[u8]], index: usize) -> Option<u32> {
    let number: i64 = std::str::from_utf8(field(fields, index)).ok()?.parse().ok()?;
    (0..=MAX_ID).contains(&number).then_some(number as u32)
}

/// Home directory of a user by the /etc/passwd that this process sees; `/` when there is none.
pub(crate) fn home_of(uid: u32) -> OsString {
    // Not blocking on a FIFO in its place.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let home = rustix::fs::open("/etc/passwd", flags, Mode::empty()).ok().and_then(|file| {
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let content = read_bounded(std::fs::File::from(file), "passwd").ok()?;
        let home = entries(&content).find(|fields| id(fields, 2) == Some(uid)).map(|fields| field(&fields, 5).to_vec());
        home.filter(|home| !home.is_empty())
    });
    home.map_or_else(|| "/".into(), OsString::from_vec)
}

#[cfg(test)]
mod tests;
