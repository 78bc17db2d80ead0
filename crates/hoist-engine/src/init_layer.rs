//! The lowest layer of every container: the mount points and files that Docker expects in any root filesystem. With it
//! below the image, nothing need be made in the container's own layer, where `docker diff` would show it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::{Result, io};

const DIRECTORIES: [&str; 5] = ["dev/pts", "dev/shm", "proc", "sys", "etc"];
/// Empty files; `/.dockerenv` is how programs tell that they are in a container.
const FILES: [&str; 5] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "dev/console", ".dockerenv"];

/// Where it is below the engine's root.
pub(crate) fn path(root: &Path) -> PathBuf {
    root.join("init-layer")
}

/// Makes it, or completes what a crash left.
pub(crate) fn make(root: &Path) -> Result<()> {
    let layer = path(root);
    for name in DIRECTORIES {
        let path = layer.join(name);
        std::fs::create_dir_all(&path).map_err(io("create", &path))?;
    }
    for name in FILES {
        let path = layer.join(name);
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(io("create", &path))?;
    }
    match symlink("/proc/mounts", layer.join("etc/mtab")) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(io("create", &layer.join("etc/mtab"))(e)),
        _ => Ok(()),
    }
}
