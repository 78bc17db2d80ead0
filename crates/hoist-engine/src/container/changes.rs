//! `docker diff` and sizes: the upper directory compared with the layers below.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use hoist_api::container::Change;

use crate::container::record::Record;
use crate::error::{Result, io};

const MODIFIED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;

/// What the container changed, sorted by path.
pub(crate) fn changes(record: &Record, directory: &Path) -> Result<Vec<Change>> {
    let mut found = Vec::new();
    walk(&directory.join("upper"), Path::new("/"), &record.fixed.layers, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(upper: &Path, below: &Path, layers: &[PathBuf], found: &mut Vec<Change>) -> Result<()> {
    let here = upper.join(below.strip_prefix("/").unwrap_or(below));
    for entry in std::fs::read_dir(&here).map_err(io("read", &here))? {
        let entry = entry.map_err(io("read", &here))?;
        let (path, full) = (below.join(entry.file_name()), entry.path());
        let metadata = entry.metadata().map_err(io("stat", &full))?;
        let kind = if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            DELETED
        } else if exists_below(layers, &path) {
            MODIFIED
        } else {
            ADDED
        };
        found.push(Change { path: path.to_string_lossy().into_owned(), kind });
        if metadata.is_dir() {
            walk(upper, &path, layers, found)?;
        }
    }
    Ok(())
}

/// Whether the image has something at `path` (topmost layer that speaks about it decides).
fn exists_below(layers: &[PathBuf], path: &Path) -> bool {
    let relative = path.strip_prefix("/").unwrap_or(path);
    for layer in layers {
        match std::fs::symlink_metadata(layer.join(relative)) {
            Ok(found) => return !(found.file_type().is_char_device() && found.rdev() == 0),
            Err(_) => {
                let hidden = relative.ancestors().skip(1).any(|up| {
                    std::fs::symlink_metadata(layer.join(up))
                        .is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
                });
                if hidden {
                    return false;
                }
            }
        }
    }
    false
}

/// Bytes of the regular files in the upper directory (`SizeRw`).
pub(crate) fn upper_size_bytes(directory: &Path) -> i64 {
    fn sum(path: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(path) else { return 0 };
        entries
            .flatten()
            .map(|entry| match entry.metadata() {
                Ok(m) if m.is_dir() => sum(&entry.path()),
                Ok(m) if m.is_file() => m.len(),
                _ => 0,
            })
            .sum()
    }
    i64::try_from(sum(&directory.join("upper"))).unwrap_or(i64::MAX)
}
