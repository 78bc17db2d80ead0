//! The directories of volumes: `<root>/volumes/<name>/_data`, made, emptied and removed so that a crash at any point can
//! be mended. Names starting with a dot are never volumes: `.removed` holds what is being deleted.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

const TRASH: &str = ".removed";
const DATA: &str = "_data";
/// A copy-up under way.
const COPYING: &str = "_copying";
/// A whole copy-up, whose entries are being moved to `_data`.
const COPIED: &str = "_copied";

pub(crate) fn data(root: &Path, name: &str) -> PathBuf {
    root.join(name).join(DATA)
}

pub(crate) fn prepare_root(root: &Path) -> Result<(), Error> {
    fs::create_dir_all(root).map_err(failed("make", root))?;
    make_with_mode(root, 0o711)?;
    make_with_mode(&root.join(TRASH), 0o700)
}

/// Makes the volume's directories; those that exist (with data even: a restored backup) are taken as they are.
pub(crate) fn make(root: &Path, name: &str) -> Result<PathBuf, Error> {
    make_with_mode(&root.join(name), 0o711)?;
    let data = data(root, name);
    if !data.exists() {
        make_with_mode(&data, 0o755)?;
    }
    Ok(data)
}

fn make_with_mode(path: &Path, mode: u32) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make", path)(error)),
        _ => {}
    }
    // Not by mkdir's mode: the umask would have its say.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

/// After a crash: directories without a record go if they are empty, removals are finished or undone.
pub(crate) fn recover(root: &Path, known: &[String]) -> Result<(), Error> {
    for path in children(&root.join(TRASH))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if known.contains(&name) && !root.join(&name).exists() {
            put_back(root, &name, Some(&path))?;
        } else {
            remove_tree(&path)?;
        }
    }
    for path in children(root)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != TRASH && !known.contains(&name) {
            remove_if_empty(root, &name);
        }
    }
    for name in known {
        // A record whose directory somebody deleted: an empty volume, as Docker has it after a restart.
        make(root, name)?;
        finish_copy(root, name)?;
    }
    Ok(())
}

/// Removes a volume's directories if they hold nothing (rmdir(2) refuses otherwise).
pub(crate) fn remove_if_empty(root: &Path, name: &str) {
    if fs::remove_dir(data(root, name)).is_ok() || !data(root, name).exists() {
        let _kept_if_not_empty = fs::remove_dir(root.join(name));
    }
}

/// Moves a volume's directory to the trash; `None` if there was none.
pub(crate) fn set_aside(root: &Path, name: &str) -> Result<Option<PathBuf>, Error> {
    let (from, to) = (root.join(name), root.join(TRASH).join(name));
    let outer = match fs::symlink_metadata(&from) {
        Ok(meta) => meta.dev(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("look at", &from)(error)),
    };
    let data = from.join(DATA);
    if fs::symlink_metadata(&data).is_ok_and(|meta| meta.dev() != outer) {
        return Err(Error::Other(format!("remove {name}: a filesystem is mounted on {}", data.display())));
    }
    if to.exists() {
        remove_tree(&to)?;
    }
    fs::rename(&from, &to).map_err(failed("move aside", &from))?;
    Ok(Some(to))
}

pub(crate) fn put_back(root: &Path, name: &str, trash: Option<&Path>) -> Result<(), Error> {
    let Some(trash) = trash else { return Ok(()) };
    fs::rename(trash, root.join(name)).map_err(failed("put back", trash))
}

/// Deletes a tree without following links; a missing one is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

pub(crate) fn is_empty(path: &Path) -> Result<bool, Error> {
    Ok(fs::read_dir(path).map_err(failed("read", path))?.next().is_none())
}

/// An empty directory to copy into, beside `_data`: nobody else sees it until it is whole.
pub(crate) fn staging(root: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = root.join(name).join(COPYING);
    remove_tree(&path)?;
    make_with_mode(&path, 0o700)?;
    Ok(path)
}

/// Declares the staged copy whole.
pub(crate) fn staged(root: &Path, name: &str) -> Result<(), Error> {
    let from = root.join(name).join(COPYING);
    fs::rename(&from, root.join(name).join(COPIED)).map_err(failed("rename", &from))
}

/// Moves a whole copy into `_data` and drops an unfinished one. `_data` itself stays the directory it is: a running
/// container may have it mounted.
pub(crate) fn finish_copy(root: &Path, name: &str) -> Result<(), Error> {
    let (volume, data) = (root.join(name), data(root, name));
    remove_tree(&volume.join(COPYING))?;
    let copied = volume.join(COPIED);
    let meta = match fs::symlink_metadata(&copied) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", &copied)(error)),
    };
    for from in children(&copied)? {
        let to = data.join(from.file_name().unwrap_or_default());
        fs::rename(&from, &to).map_err(failed("move", &from))?;
    }
    crate::copy_up::copy_attributes(&copied, &data, &meta).map_err(failed("set the attributes of", &data))?;
    fs::remove_dir(&copied).map_err(failed("remove", &copied))
}

fn children(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("read", path))?,
    };
    entries.map(|entry| entry.map(|e| e.path()).map_err(failed("read", path))).collect()
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Other(format!("{verb} {}: {error}", path.display()))
}
