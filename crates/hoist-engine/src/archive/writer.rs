//! Tar as Docker's clients and engines read it: ustar headers, with a PAX header (POSIX pax, "pax Extended Header") before
//! entries that do not fit into one. Times are whole seconds, users and groups numbers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::tree::by_descriptor;

pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const BLOCK_BYTES: usize = 512;
const BUFFER_BYTES: usize = 128 * 1024;
/// Largest numbers that the header's octal fields hold.
const OCTAL_7_MAX: u64 = 0o7_777_777;
const OCTAL_11_MAX: u64 = 0o77_777_777_777;
/// Longest value of an extended attribute: xattr(7).
const XATTR_MAX_BYTES: usize = 64 * 1024;

pub(super) struct TarWriter<W> {
    out: W,
    /// First paths of files that have others, and how many of those are to come.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    buffer: Vec<u8>,
}

/// The fields of one header.
struct Header<'a> {
    path: &'a [u8],
    kind: u8,
    mode: u32,
    owner: (u64, u64),
    mtime: i64,
    size: u64,
    link: &'a [u8],
    device: Option<(u32, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Header<'a> {
    fn new(path: &'a [u8], kind: u8, stat: &Stat) -> Header<'a> {
        Header {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid.into(), stat.st_gid.into()),
            mtime: stat.st_mtime,
            size: 0,
            link: b"",
            device: None,
            xattrs: Vec::new(),
        }
    }
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(out: W) -> TarWriter<W> {
        TarWriter { out, links: HashMap::new(), buffer: vec![0; BUFFER_BYTES] }
    }

    /// Adds a file or directory that is open with `O_PATH`. Sockets are passed over: no archive can hold them.
    pub(super) fn entry(&mut self, path: &[u8], file: &BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory
            && stat.st_nlink > 1
            && let Some(first) = self.first_link(path, stat)
        {
            return self.header(&Header { link: &first, ..Header::new(path, b'1', stat) });
        }
        let xattrs = xattrs(*file)?;
        match kind {
            FileType::RegularFile => {
                let content = File::from(rustix::fs::open(
                    by_descriptor(*file),
                    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOATIME,
                    rustix::fs::Mode::empty(),
                )?);
                // what is copied is as long as the header says, however the file changes meanwhile
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                self.header(&Header { size, xattrs, ..Header::new(path, b'0', stat) })?;
                self.content(content, size)
            }
            FileType::Directory => {
                let path = [path, b"/"].concat();
                self.header(&Header { xattrs, ..Header::new(&path, b'5', stat) })
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(file, "", Vec::new())?;
                self.header(&Header { link: target.as_bytes(), xattrs, ..Header::new(path, b'2', stat) })
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let flag = if kind == FileType::CharacterDevice { b'3' } else { b'4' };
                self.header(&Header { device: Some(numbers), xattrs, ..Header::new(path, flag, stat) })
            }
            FileType::Fifo => self.header(&Header { xattrs, ..Header::new(path, b'6', stat) }),
            _ => Ok(()),
        }
    }

    /// Adds the mark that a lower layer's file is gone.
    pub(super) fn whiteout(&mut self, path: &[u8], stat: &Stat) -> io::Result<()> {
        let name = super::name_of(path);
        let parent = &path[..path.len() - name.len()];
        let path = [parent, WHITEOUT_PREFIX, name].concat();
        self.header(&Header { mode: 0o600, owner: (0, 0), ..Header::new(&path, b'0', stat) })
    }

    /// Adds the mark that a directory hides those below it.
    pub(super) fn opaque(&mut self, path: &[u8], stat: &Stat) -> io::Result<()> {
        let path = [path, b"/", OPAQUE].concat();
        self.header(&Header { mode: stat.st_mode & 0o777, ..Header::new(&path, b'0', stat) })
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush()
    }

    /// Where the same file was before; remembers it if nowhere.
    #[allow(clippy::useless_conversion, reason = "the kernel's type for the count is not u64 on every machine")]
    fn first_link(&mut self, path: &[u8], stat: &Stat) -> Option<Vec<u8>> {
        let key = (stat.st_dev, stat.st_ino);
        let Some((first, left)) = self.links.get_mut(&key) else {
            self.links.insert(key, (path.to_vec(), u64::from(stat.st_nlink) - 1));
            return None;
        };
        let found = first.clone();
        *left -= 1;
        if *left == 0 {
            self.links.remove(&key);
        }
        Some(found)
    }

    /// Exactly `size` bytes: a file that got shorter is filled up, as other programs do.
    fn content(&mut self, mut file: File, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let mut count = file.read(&mut self.buffer[..wanted])?;
            if count == 0 {
                self.buffer[..wanted].fill(0);
                count = wanted;
            }
            self.out.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK_BYTES as u64) as usize;
        if over > 0 { self.out.write_all(&[0; BLOCK_BYTES][over..]) } else { Ok(()) }
    }

    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        let records = pax_records(header);
        if !records.is_empty() {
            let name =
                [b"PaxHeaders.0/", super::name_of(header.path.strip_suffix(b"/").unwrap_or(header.path))].concat();
            let extended = Header {
                path: &name,
                kind: b'x',
                mode: 0o644,
                owner: (0, 0),
                mtime: 0,
                size: records.len() as u64,
                link: b"",
                device: None,
                xattrs: Vec::new(),
            };
            self.out.write_all(&block(&extended))?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.out.write_all(&block(header))
    }
}

/// What does not fit into the header's own fields.
fn pax_records(header: &Header<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    if header.path.len() > 100 {
        pax_record(&mut records, b"path", header.path);
    }
    if header.link.len() > 100 {
        pax_record(&mut records, b"linkpath", header.link);
    }
    if header.size > OCTAL_11_MAX {
        pax_record(&mut records, b"size", header.size.to_string().as_bytes());
    }
    for (key, id) in [("uid", header.owner.0), ("gid", header.owner.1)] {
        if id > OCTAL_7_MAX {
            pax_record(&mut records, key.as_bytes(), id.to_string().as_bytes());
        }
    }
    if !fits(header.mtime) {
        pax_record(&mut records, b"mtime", header.mtime.to_string().as_bytes());
    }
    for (name, value) in &header.xattrs {
        pax_record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

fn fits(mtime: i64) -> bool {
    u64::try_from(mtime).is_ok_and(|seconds| seconds <= OCTAL_11_MAX)
}

/// `"%d %s=%s\n"`, where the number counts its own digits too.
pub(super) fn pax_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn block(header: &Header<'_>) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut text = |at: usize, length: usize, bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(length)];
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let octal = |digits: usize, value: u64| format!("{value:0digits$o}\0").into_bytes();
    let owner = |id: u64| if id > OCTAL_7_MAX { 0 } else { id };
    text(0, 100, header.path);
    text(100, 8, &octal(7, header.mode.into()));
    text(108, 8, &octal(7, owner(header.owner.0)));
    text(116, 8, &octal(7, owner(header.owner.1)));
    text(124, 12, &octal(11, if header.size > OCTAL_11_MAX { 0 } else { header.size }));
    text(136, 12, &octal(11, if fits(header.mtime) { header.mtime.unsigned_abs() } else { 0 }));
    text(148, 8, b"        ");
    text(156, 1, &[header.kind]);
    text(157, 100, header.link);
    text(257, 8, b"ustar\x0000");
    let (major, minor) = header.device.unwrap_or_default();
    text(329, 8, &octal(7, major.into()));
    text(337, 8, &octal(7, minor.into()));
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The extended attributes that belong to the file rather than to this host or to overlayfs, sorted.
fn xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = by_descriptor(file);
    // most files have none, or few
    let mut names = vec![0; 256];
    let length = loop {
        match rustix::fs::listxattr(&path, &mut names) {
            Err(Errno::RANGE) if names.len() < XATTR_MAX_BYTES => names.resize(XATTR_MAX_BYTES, 0),
            listed => break listed,
        }
    };
    let length = match length {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NODATA | Errno::NOENT) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| travels(name)) {
        let mut value = vec![0; XATTR_MAX_BYTES];
        match rustix::fs::getxattr(&path, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    found.sort();
    Ok(found)
}

fn travels(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.")
}
