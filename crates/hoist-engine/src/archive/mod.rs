//! Directory trees of containers as tar streams: the writer, the walk over a container's layers, and what each use makes of
//! what the walk finds. A container may change its tree meanwhile and may mean harm: nothing is found by the host's idea of
//! a path, and names, depths and counts have bounds.

mod tree;
mod writer;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use tree::Found;
use writer::TarWriter;

pub(crate) use tree::{Merged, Tree, by_descriptor};

/// Deepest directory, as for layers that are unpacked.
const DEPTH_MAX: usize = 1024;
/// Most entries of one archive, as for layers that are unpacked.
const ENTRIES_MAX: u64 = 4_000_000;

/// Writes what a container changed as a layer: removed files as `.wh.NAME`, replaced directories with `.wh..wh..opq`.
/// The same tree gives the same bytes. Blocking.
pub(crate) fn write_layer(upper: &Path, out: impl Write) -> io::Result<()> {
    let tree = Tree::open(&[upper.to_owned()])?;
    write(&tree, out, |found, tar| match found {
        Found::Whiteout { path, stat } => tar.whiteout(path, stat),
        Found::Entry { path, .. } if name_of(path).starts_with(writer::WHITEOUT_PREFIX) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a layer cannot hold a file whose name begins with .wh.: rename or remove it",
        )),
        Found::Entry { path, file, stat } => tar.entry(path, file, stat),
        Found::Opaque { path, stat } => tar.opaque(path, stat),
    })
}

/// Writes a container's whole root, merged of its layers, topmost first. Blocking.
pub(crate) fn write_root(layers: &[PathBuf], out: impl Write) -> io::Result<()> {
    let tree = Tree::open(layers)?;
    write(&tree, out, |found, tar| match found {
        Found::Entry { path, file, stat } => tar.entry(path, file, stat),
        Found::Whiteout { .. } | Found::Opaque { .. } => Ok(()),
    })
}

/// Bytes of the files below a directory, each once however many names it has. Blocking.
pub(crate) fn size_bytes(directory: &Path) -> io::Result<u64> {
    let (mut total, mut seen) = (0_u64, HashSet::new());
    Tree::open(&[directory.to_owned()])?.walk(&mut |found| {
        if let Found::Entry { stat, .. } = found
            && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
            && (stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)))
        {
            total = total.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
        }
        Ok(())
    })?;
    Ok(total)
}

fn write<W: Write>(
    tree: &Tree,
    out: W,
    mut put: impl FnMut(&Found<'_>, &mut TarWriter<W>) -> io::Result<()>,
) -> io::Result<()> {
    let mut tar = TarWriter::new(out);
    let mut count = 0;
    tree.walk(&mut |found| {
        count += 1;
        if count > ENTRIES_MAX {
            return Err(io::Error::other(format!("more than {ENTRIES_MAX} files")));
        }
        put(&found, &mut tar)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", String::from_utf8_lossy(found.path()))))
    })?;
    tar.finish()
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
