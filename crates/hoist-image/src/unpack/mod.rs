//! Turning a layer's tar into a directory an overlay can use as a lower layer: whiteouts become character devices 0:0,
//! opaque directories carry `trusted.overlay.opaque=y` (kernel Documentation/filesystems/overlayfs.rst).
//!
//! A layer comes from a stranger. Every name is resolved below the layer's own root by openat2(2) with RESOLVE_IN_ROOT,
//! so that no link and no `..` leads out of it; counts, depths and lengths have bounds.

mod entries;
mod header;
mod pax;
mod place;
mod record;
mod sparse;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

pub(crate) use entries::entries;
pub(crate) use header::is_tar_header;
pub(crate) use record::{replay, replayed_bytes};
pub(crate) use stream::{Entry, Kind, TarStream};
pub use verify::Damage;
pub(crate) use verify::verify;

use place::Root;
use rustix::io::Errno;

/// More entries than any real layer has (a full Debian archive mirror of one suite has about 60 000 files).
const ENTRIES_MAX: u64 = 4_000_000;
/// Bytes of directory names remembered for setting times at the end.
const DIRECTORY_NAMES_MAX_BYTES: usize = 256 << 20;
const PATH_MAX_BYTES: usize = 4096;
/// Bounds what removing a tree costs; real layers stay far below.
const DEPTH_MAX: usize = 1024;

/// What a name in a layer says instead of being a file's (OCI image-spec, layer.md "Whiteouts").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker<'a> {
    /// Nothing of its directory's former content is left.
    Opaque,
    /// AUFS kept its own records under such names; they are no files of the image.
    Foreign,
    /// What had this name is gone.
    Hides(&'a [u8]),
}

/// What a name means in a layer; nothing: it is a file's. In a root filesystem that was imported all are.
pub(crate) fn marker(name: &[u8]) -> Option<Marker<'_>> {
    let hidden = name.strip_prefix(b".wh.")?;
    Some(match hidden {
        b".wh..opq" => Marker::Opaque,
        _ if hidden.starts_with(b".wh.") => Marker::Foreign,
        _ => Marker::Hides(hidden),
    })
}

/// Whether an unpacked layer has something at a path.
pub(crate) fn has(content: &Path, path: &[u8]) -> io::Result<bool> {
    let Some((parent, name)) = split(path) else { return Ok(false) };
    match Root::open(content, content)?.existing_directory(parent) {
        Ok(parent) => Ok(place::look(&parent, name)?.is_some()),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// What `.wh.` names in the tar mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whiteouts {
    /// A layer: they hide what is below.
    Overlay,
    /// A root filesystem given to `import`: plain names.
    Plain,
}

/// Where a layer goes: three places on the same disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// An empty directory for the layer itself.
    pub(crate) content: &'a Path,
    /// An empty directory for what the layer itself replaces.
    pub(crate) trash: &'a Path,
    /// Not there yet: the file for the layer's record.
    pub(crate) record: &'a Path,
}

/// Unpacks the tar in `reader`, which is read to its end. Returns the bytes of the files made, as Docker counts them: hard
/// links once, directories not at all.
pub(crate) fn unpack(reader: &mut dyn Read, target: Target<'_>, whiteouts: Whiteouts) -> io::Result<u64> {
    let mut unpacker = Unpacker::new(target, whiteouts)?;
    let mut stream = TarStream::new(reader).record(record::Recorder::create(target.record)?);
    while let Some(entry) = stream.next_entry()? {
        unpacker.add(&entry, &mut stream).map_err(|e| named(e, &String::from_utf8_lossy(&entry.path)))?;
    }
    if let Some(recorder) = stream.finish()? {
        recorder.finish()?;
    }
    unpacker.finish()
}

fn named(source: io::Error, path: &str) -> io::Error {
    let shown: String = path.chars().take(200).collect();
    // The kind matters to callers (disk full, truncated); the text says where.
    io::Error::new(source.kind(), format!("{shown}: {source}"))
}

struct Unpacker<'a> {
    root: Root,
    content: &'a Path,
    whiteouts: Whiteouts,
    entries: u64,
    bytes: u64,
    /// Set last, deepest first does not matter: setting a directory's times touches no other's.
    directories: Vec<(Vec<u8>, (i64, u32))>,
    directory_name_bytes: usize,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    fn new(target: Target<'a>, whiteouts: Whiteouts) -> io::Result<Unpacker<'a>> {
        Ok(Unpacker {
            root: Root::open(target.content, target.trash)?,
            content: target.content,
            whiteouts,
            entries: 0,
            bytes: 0,
            directories: Vec::new(),
            directory_name_bytes: 0,
            buffer: vec![0; 128 * 1024],
        })
    }

    fn add<R: Read>(&mut self, entry: &Entry, stream: &mut TarStream<R>) -> io::Result<()> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(stream::invalid(format!("more than {ENTRIES_MAX} entries in one layer")));
        }
        let path = confine(&entry.path)?;
        let Some((parent, name)) = split(&path) else {
            // The root itself: an overlay shows the uppermost directory's owner and mode, as Docker does.
            return Ok(());
        };
        let parent = self.root.directory(parent)?;
        if self.whiteouts == Whiteouts::Overlay
            && let Some(marker) = marker(name)
        {
            return mark(entry, &parent, marker);
        }
        self.bytes = self.bytes.saturating_sub(self.make_way(entry, (&parent, name), stream)?);
        self.make(entry, &path, (&parent, name), stream)
    }

    /// Removes what stands where the entry goes, unless both are directories. Returns the bytes freed.
    fn make_way<R: Read>(
        &mut self,
        entry: &Entry,
        (parent, name): (&OwnedFd, &[u8]),
        stream: &mut TarStream<R>,
    ) -> io::Result<u64> {
        let Some(existing) = place::look(parent, name)? else { return Ok(0) };
        let is_directory = entry.kind == Kind::Directory;
        if existing.is_directory && is_directory {
            return Ok(0);
        }
        if !existing.is_whiteout {
            // What goes may be, or lead to, the content of an entry that the record only points at.
            stream.record_whole(self.content)?;
        }
        let freed = self.root.remove(parent, name, &existing)?;
        if existing.is_whiteout && is_directory {
            // Removed from below and made anew in the same layer: what was below must stay hidden.
            place::make_directory(parent, name)?;
            place::mark_opaque(parent, name)?;
        }
        Ok(freed)
    }

    fn make<R: Read>(
        &mut self,
        entry: &Entry,
        path: &[u8],
        (parent, name): (&OwnedFd, &[u8]),
        stream: &mut TarStream<R>,
    ) -> io::Result<()> {
        match entry.kind {
            Kind::File => {
                // A sparse file's payload is not its content: the record takes it as it is.
                let whole = entry.sparse.is_none() && entry.payload_bytes > 0;
                if whole {
                    stream.content_follows();
                }
                let (length, digest) = place::make_file(entry, parent, name, stream, &mut self.buffer)?;
                self.bytes = self.bytes.saturating_add(length);
                return if whole { stream.content_was(path, length, digest) } else { Ok(()) };
            }
            Kind::Hardlink => return self.link(entry, parent, name),
            Kind::Directory => {
                place::make_directory(parent, name)?;
                self.directory_name_bytes += path.len();
                if self.directory_name_bytes > DIRECTORY_NAMES_MAX_BYTES {
                    return Err(stream::invalid("too many directories in one layer"));
                }
                self.directories.push((path.to_vec(), entry.mtime));
            }
            Kind::Symlink => {
                place::make_symlink(&entry.link, parent, name)?;
                self.bytes = self.bytes.saturating_add(entry.link.len() as u64);
            }
            Kind::Char | Kind::Block | Kind::Fifo => place::make_node(entry, parent, name)?,
        }
        place::set_attributes(entry, parent, name)
    }

    fn link(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let target = confine(&entry.link)?;
        let shown = String::from_utf8_lossy(&entry.link);
        let (target_parent, target_name) =
            split(&target).ok_or_else(|| stream::invalid(format!("hard link to {shown:?}")))?;
        let target_parent = self.root.directory(target_parent)?;
        place::make_link(&target_parent, target_name, parent, name)
            .map_err(|e| io::Error::new(e.kind(), format!("hard link to {shown:?}: {e}")))
    }

    fn finish(self) -> io::Result<u64> {
        for (path, mtime) in &self.directories {
            let Some((parent, name)) = split(path) else { continue };
            // A later entry may have replaced the directory, or one above it, by something else.
            let Ok(parent) = self.root.existing_directory(parent) else { continue };
            if place::look(&parent, name)?.is_some_and(|found| found.is_directory) {
                place::set_time(&parent, name, *mtime)?;
            }
        }
        Ok(self.bytes)
    }
}

fn mark(entry: &Entry, parent: &OwnedFd, marker: Marker<'_>) -> io::Result<()> {
    let hidden = match marker {
        Marker::Opaque => return place::mark_opaque(parent, b"."),
        Marker::Foreign => return Ok(()),
        Marker::Hides(b"" | b"." | b"..") => return Err(stream::invalid("invalid whiteout name")),
        Marker::Hides(hidden) => hidden,
    };
    match place::look(parent, hidden)? {
        // Hides what is below only; what this layer itself brings stays.
        Some(existing) if existing.is_directory => place::mark_opaque(parent, hidden),
        Some(_) => Ok(()),
        None => place::make_whiteout(entry, parent, hidden),
    }
}

/// The path below the root: made relative, `.` and inner `..` resolved by name as Docker does. One that would climb out
/// is refused.
fn confine(path: &[u8]) -> io::Result<Vec<u8>> {
    let shown = || String::from_utf8_lossy(path).chars().take(200).collect::<String>();
    if path.len() >= PATH_MAX_BYTES {
        return Err(stream::invalid(format!("name of {} bytes is too long: {:?}", path.len(), shown())));
    }
    if path.contains(&0) {
        return Err(stream::invalid(format!("name with a NUL byte: {:?}", shown())));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() && !path.starts_with(b"/") {
                    return Err(stream::invalid(format!("{:?} is outside of the layer", shown())));
                }
            }
            _ => parts.push(part),
        }
    }
    if parts.len() > DEPTH_MAX {
        return Err(stream::invalid(format!("more than {DEPTH_MAX} directories deep: {:?}", shown())));
    }
    Ok(parts.join(&b'/'))
}

/// Parent and last component; `None` for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}
