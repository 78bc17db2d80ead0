//! `/dev/shm` of containers whose IPC others may join: a tmpfs in the container's directory, mounted on the host.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Error, Result, io};

/// Mounts the tmpfs; harmless when it is already there.
pub(crate) fn mount(directory: &Path, size_bytes: i64) -> Result<()> {
    let path = directory.join("shm");
    std::fs::create_dir_all(&path).map_err(io("create", &path))?;
    unmount(directory);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options =
        std::ffi::CString::new(format!("mode=1777,size={size_bytes}")).map_err(|e| Error::internal(e.to_string()))?;
    rustix::mount::mount("shm", &path, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(|e| io("mount tmpfs on", &path)(e.into()))
}

/// Unmounts it if it is mounted.
pub(crate) fn unmount(directory: &Path) {
    // EINVAL: it was not mounted, which is the usual case.
    _ = rustix::mount::unmount(directory.join("shm"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}
