//! The lowest layer of every container: the mount points and files that Docker expects in any root filesystem. With it
//! below the image, nothing need be made in the container's own layer, where `docker diff` would show it.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::{Result, io};

const DIRECTORIES: [&str; 5] = ["dev/pts", "dev/shm", "proc", "sys", "etc"];
/// Empty files; `/.dockerenv` is how programs tell that they are in a container.
const FILES: [&str; 5] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "dev/console", ".dockerenv"];

/// Docker's, which exported roots and programs that look at `/.dockerenv` show.
const FILE_MODE: u32 = 0o755;

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
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(io("create", &path))?;
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(io("set the mode of", &path))?;
    }
    match symlink("/proc/mounts", layer.join("etc/mtab")) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(io("create", &layer.join("etc/mtab"))(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_and_completed_with_docker_s_modes() {
        let root = tempfile::tempdir().unwrap();
        make(root.path()).unwrap();
        let marker = path(root.path()).join(".dockerenv");
        std::fs::set_permissions(&marker, Permissions::from_mode(0o600)).unwrap();
        std::fs::remove_file(path(root.path()).join("etc/mtab")).unwrap();
        make(root.path()).unwrap();
        assert_eq!(std::fs::metadata(&marker).unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(path(root.path()).join("etc/mtab").is_symlink());
    }
}
