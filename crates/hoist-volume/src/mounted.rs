//! Volumes that are a mount of their own (`type`, `o`, `device`): mounted once on the host, at the volume's mountpoint, for
//! as long as a running container uses them, and shared by all of those. Who uses what is kept in memory only; an engine
//! that starts is told by those who find the running containers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::{Error, MountSpec, Volume, Volumes};

/// Volume name to the containers that run with it.
pub(crate) type Uses = BTreeMap<String, BTreeSet<String>>;

/// Options that are flags of mount(2), and whether they set or clear them; the others are for the filesystem.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("defaults", MountFlags::empty(), true),
];

impl Volumes {
    /// A container is about to run with a volume: mounts it if it is to be mounted and nobody had it yet.
    pub fn take(&self, name: &str, container_id: &str) -> Result<(), Error> {
        let volume = self.get(name)?;
        let Some(spec) = volume.own_mount() else { return Ok(()) };
        let mut uses = self.uses();
        if !uses.contains_key(name) {
            // What an engine left that was killed between this and the container's start is not what anybody sees.
            unmount(&volume.mountpoint);
            mount(&volume, &spec)?;
        }
        uses.entry(name.to_owned()).or_default().insert(container_id.to_owned());
        Ok(())
    }

    /// A container that survived the last engine runs with a volume, which is mounted already.
    pub fn adopt_use(&self, name: &str, container_id: &str) {
        let is_mount = self.get(name).is_ok_and(|volume| volume.own_mount().is_some());
        if is_mount {
            self.uses().entry(name.to_owned()).or_default().insert(container_id.to_owned());
        }
    }

    /// A container does not run any more: what nobody else uses is unmounted. One that used nothing is fine.
    pub fn give_back(&self, container_id: &str) {
        let mut uses = self.uses();
        uses.retain(|name, containers| {
            let used = containers.remove(container_id);
            if used
                && containers.is_empty()
                && let Ok(volume) = self.get(name)
            {
                unmount(&volume.mountpoint);
            }
            !containers.is_empty()
        });
    }

    /// After all `adopt_use`s of a start: unmounts what no running container uses.
    pub fn sweep_mounts(&self) {
        let uses = self.uses();
        for volume in self.list() {
            if volume.own_mount().is_some() && !uses.contains_key(&volume.name) && is_mounted(&volume.mountpoint) {
                unmount(&volume.mountpoint);
            }
        }
    }
}

fn mount(volume: &Volume, spec: &MountSpec) -> Result<(), Error> {
    let (flags, data) = split(&spec.options);
    let path = &volume.mountpoint;
    let failed = |why: &str| {
        Error::Other(format!(
            "error while mounting volume '{path}': failed to mount local volume: mount {}:{path}, data: {data}: {why}",
            spec.source,
            path = path.display(),
        ))
    };
    let text = CString::new(data.clone()).map_err(|_| failed("invalid argument"))?;
    rustix::mount::mount(&spec.source, path, &spec.fstype, flags, Some(text.as_c_str()))
        .map_err(|errno| failed(&reason(errno)))
}

/// strerror(3)'s text in lower case, as Go prints it.
fn reason(errno: rustix::io::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The flags of mount(2) and what is left for the filesystem.
fn split(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match FLAGS.iter().find(|(name, ..)| name == option) {
            Some((_, flag, set)) => flags.set(*flag, *set),
            None => data.push(option.as_str()),
        }
    }
    (flags, data.join(","))
}

fn unmount(path: &Path) {
    // EINVAL: it was not mounted. Detached, so that a process of the host that looks at it does not keep it for ever.
    _ = rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}

fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|data| data.dev()).ok();
    path.parent().is_some_and(|parent| device(parent).is_some() && device(path) != device(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_filesystems() {
        let options = ["ro", "size=1m", "nosuid", "rw", "uid=5"].map(str::to_owned);
        assert_eq!(split(&options), (MountFlags::NOSUID, "size=1m,uid=5".to_owned()));
        assert_eq!(split(&[]), (MountFlags::empty(), String::new()));
    }
}
