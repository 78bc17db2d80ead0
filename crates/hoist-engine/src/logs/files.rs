//! The files of a log, rotated and perhaps compressed ones included.

use std::fs::File;
use std::io;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rustix::fs::{Mode, OFlags};

/// Existing files of a log, oldest first: `path.N` … `path.1`, `path`. A compressed one (`path.N.gz`) is unpacked into a
/// file without a name: what reads them seeks.
pub(super) fn open_rotated(path: &Path) -> Vec<File> {
    let mut files: Vec<File> = (1..).map_while(|number| open_numbered(path, number)).collect();
    files.reverse();
    files.extend(File::open(path));
    files
}

/// The plain form goes when the compressed one is there.
fn open_numbered(path: &Path, number: u32) -> Option<File> {
    let plain = format!("{}.{number}", path.display());
    if let Ok(file) = File::open(&plain) {
        return Some(file);
    }
    let compressed = File::open(format!("{plain}.gz")).ok()?;
    match unpack(compressed, path) {
        Ok(file) => Some(file),
        Err(e) => {
            tracing::warn!("cannot unpack {plain}.gz: {e}");
            // What is older can still be read.
            File::open("/dev/null").ok()
        }
    }
}

fn unpack(compressed: File, path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut MultiGzDecoder::new(compressed), &mut file)?;
    Ok(file)
}
