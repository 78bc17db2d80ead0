//! `volume-subpath`: a part of a volume. Where it is may be made, or changed, until the container starts, so that is when it
//! is looked for; the runtime then resolves it inside the volume, whatever a container may have put in its place.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::container::record::Record;
use crate::error::{Error, Result};

/// The path without `.` and `..`; `None` if it leads out of the volume by its words. Empty: all of the volume.
pub(super) fn clean(subpath: &str) -> Option<String> {
    let mut parts = Vec::new();
    for component in Path::new(subpath).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => _ = parts.pop()?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Refuses in Docker's words to start a container with a part of a volume that is not there.
pub(crate) fn check(record: &Record) -> Result<()> {
    for mount in record.fixed.mounts.iter().filter(|mount| !mount.subpath.is_empty()) {
        if let Some(missing) = missing(&mount.source, &mount.subpath) {
            return Err(Error::not_found(format!(
                "cannot access path {}: lstat {}: no such file or directory",
                mount.source.join(&mount.subpath).display(),
                missing.display()
            )));
        }
    }
    Ok(())
}

/// The first of the path's directories that is not there. Follows no link: what those lead to is not for us to tell.
fn missing(volume: &Path, subpath: &str) -> Option<PathBuf> {
    let (flags, mut path) = (OFlags::PATH | OFlags::CLOEXEC, volume.to_owned());
    let mut here = rustix::fs::openat(CWD, volume, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    for name in Path::new(subpath).components() {
        path.push(name);
        match rustix::fs::openat(&here, name.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(next) => here = next,
            Err(Errno::NOENT) => return Some(path),
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subpaths_stay_inside_by_their_words() {
        let cleaned = [("a", "a"), ("./a", "a"), ("a//b/", "a/b"), ("a/../b", "b"), (".", ""), ("", "")];
        for (given, wanted) in cleaned {
            assert_eq!(clean(given).as_deref(), Some(wanted), "{given}");
        }
        for outside in ["..", "../a", "/a", "a/../.."] {
            assert_eq!(clean(outside), None, "{outside}");
        }
    }

    #[test]
    fn what_is_missing_is_named_and_links_are_not_followed() {
        let volume = tempfile::tempdir().unwrap();
        let volume = volume.path();
        std::fs::create_dir(volume.join("a")).unwrap();
        std::os::unix::fs::symlink("/", volume.join("link")).unwrap();
        assert_eq!(missing(volume, "a"), None);
        assert_eq!(missing(volume, "a/b/c"), Some(volume.join("a/b")));
        assert_eq!(missing(volume, "link/nowhere"), None);
    }
}
