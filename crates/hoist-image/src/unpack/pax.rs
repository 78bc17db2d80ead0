//! PAX extended header records (POSIX pax, "pax Extended Header"): the keys a layer can need, binary-safe. Pure.

use std::io;

use super::sparse::{self, Segment};
use super::stream::invalid;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What one extended header says about the entry after it.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// GNU's sparse keys, versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_bytes: Option<u64>,
    pub(super) segments: Option<Vec<Segment>>,
    major: Option<u64>,
    pending_offset: Option<u64>,
}

impl SparseRecords {
    pub(super) fn is_version_1(&self) -> bool {
        self.major == Some(1)
    }
}

pub(super) fn parse(mut bytes: &[u8]) -> io::Result<Records> {
    let mut records = Records::default();
    while !bytes.is_empty() {
        let (record, rest) = split_record(bytes)?;
        bytes = rest;
        let equals = record.iter().position(|&b| b == b'=').ok_or_else(|| invalid("pax record without a value"))?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            records.xattrs.push((name.to_vec(), value.to_vec()));
        } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            records.sparse.add(name, value)?;
        } else if !value.is_empty() {
            records.add(key, value)?;
        }
    }
    Ok(records)
}

/// `"%d %s=%s\n"`: the number counts the whole record, itself included, so values may hold newlines.
fn split_record(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let bad = || invalid("invalid pax record");
    let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or_else(bad)?;
    let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| bad())?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(bad());
    }
    Ok((&bytes[space + 1..length - 1], &bytes[length..]))
}

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let signed = || i64::try_from(decimal(value)?).map_err(|_| invalid("pax number out of range"));
        match key {
            b"path" => self.path = Some(no_nul(value)?),
            b"linkpath" => self.link = Some(no_nul(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(signed()?),
            b"gid" => self.gid = Some(signed()?),
            b"mtime" => self.mtime = Some(time(value)?),
            // atime, ctime, uname, gname, comment, hdrcharset and vendors' own: nothing a layer keeps.
            _ => {}
        }
        Ok(())
    }
}

impl SparseRecords {
    fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"name" => self.name = Some(no_nul(value)?),
            b"realsize" | b"size" => self.real_bytes = Some(decimal(value)?),
            b"major" => self.major = Some(decimal(value)?),
            b"map" => self.segments = Some(sparse::comma_map(value)?),
            b"offset" => self.pending_offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = self.pending_offset.take().ok_or_else(|| invalid("invalid sparse map"))?;
                let segments = self.segments.get_or_insert_default();
                segments.push(Segment { offset, length: decimal(value)? });
                sparse::check_count(segments.len())?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn no_nul(value: &[u8]) -> io::Result<Vec<u8>> {
    if value.contains(&0) { Err(invalid("pax name with a NUL byte")) } else { Ok(value.to_vec()) }
}

pub(super) fn decimal(digits: &[u8]) -> io::Result<u64> {
    let text = str::from_utf8(digits).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|t| t.parse().ok()).ok_or_else(|| invalid("invalid pax number"))
}

/// `-?seconds[.fraction]`, to the nanosecond.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    let bad = || invalid("invalid pax time");
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let (whole, fraction) = match value.iter().position(|&b| b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).map_err(|_| bad())?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let mut nanos = 0_u32;
    for index in 0..9 {
        nanos = nanos * 10 + fraction.get(index).map_or(0, |d| u32::from(d - b'0'));
    }
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_any_bytes() {
        let records = parse(b"34 SCHILY.xattr.security.x=a\nb\n\xff\x00\n12 path=a b\n").unwrap();
        assert_eq!(records.xattrs, [(b"security.x".to_vec(), b"a\nb\n\xff\x00".to_vec())]);
        assert_eq!(records.path.as_deref(), Some(&b"a b"[..]));
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(time(b"1.5").unwrap(), (1, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"12").unwrap(), (12, 0));
        assert_eq!(time(b"1.1234567899").unwrap(), (1, 123_456_789));
        assert!(time(b"1.x").is_err());
    }

    #[test]
    fn broken_records_are_refused() {
        let cases: [&[u8]; 8] =
            [b"x", b"5 a=b", b"99 a=b\n", b"0 a=b\n", b"4 ab\n", b"12 path=a\0b\n", b"9 size=x\n", b"-1 a=b\n"];
        for case in cases {
            assert!(parse(case).is_err(), "{:?}", String::from_utf8_lossy(case));
        }
    }
}
