//! Sources of bind mounts that are opened before init is cloned, by the number of the mount.

use std::os::fd::OwnedFd;

use oci_spec::runtime::Mount;

use crate::failure::Result;
use crate::init::mounts;
use crate::launch::Launch;
use crate::protocol::Failure;

/// Those that init could not open in its mount namespace, and parts of sources.
pub(super) fn open(launch: &Launch) -> Result<Vec<(usize, OwnedFd)>> {
    let mut opened = open_parts(launch)?;
    let is_part = |mount: &Mount| launch.subpaths.iter().any(|part| part.destination == *mount.destination());
    opened.extend(mounts::open_sources(&launch.spec, |mount| mounts::needs_host_namespace(mount) && !is_part(mount))?);
    Ok(opened)
}

/// The sources of which only a part is mounted.
pub(super) fn open_parts(launch: &Launch) -> Result<Vec<(usize, OwnedFd)>> {
    let open = |part: &crate::launch::Subpath| {
        let mut mounts = launch.spec.mounts().iter().flatten().enumerate();
        let found = mounts.find(|(_, mount)| *mount.destination() == part.destination);
        let missing = || Failure::other(format!("there is no mount at {:?} to have a subpath", part.destination));
        let (index, mount) = found.ok_or_else(missing)?;
        Ok((index, mounts::open_subpath(mount, &part.path)?))
    };
    launch.subpaths.iter().map(open).collect()
}
