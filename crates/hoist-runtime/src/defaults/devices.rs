//! Host devices for a container: what `--device` and `--privileged` add, and the nodes that every container gets.
//! Only looks at the host; making the nodes is the container's init.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

/// A device node that is made in every container without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultDevice {
    pub path: &'static str,
    pub major: u32,
    pub minor: u32,
}

/// The character devices that the OCI runtime specification puts into every container, mode 0666.
pub const DEFAULT_DEVICES: [DefaultDevice; 6] = [
    DefaultDevice { path: "/dev/null", major: 1, minor: 3 },
    DefaultDevice { path: "/dev/random", major: 1, minor: 8 },
    DefaultDevice { path: "/dev/full", major: 1, minor: 7 },
    DefaultDevice { path: "/dev/tty", major: 5, minor: 0 },
    DefaultDevice { path: "/dev/zero", major: 1, minor: 5 },
    DefaultDevice { path: "/dev/urandom", major: 1, minor: 9 },
];

/// Directories below `/dev` that are file systems of their own or another container's, never copied.
const SKIPPED_DIRECTORIES: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// Directories may nest this deep; `/dev` has no more than four.
const MAX_DEPTH: usize = 32;

/// One device cgroup rule.
pub fn device_rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(kind).set_major(major).set_minor(minor).set_access(Some(access.to_owned()));
    rule
}

/// All device nodes below the host's `/dev`.
pub fn all_host_devices() -> Result<Vec<LinuxDevice>, String> {
    let mut found = Vec::new();
    let failed = |error: Failed| format!("cannot list host devices: {}: {}", error.path.display(), error.source);
    walk(Path::new("/dev"), MAX_DEPTH, &mut |path, metadata| {
        if path.file_name().is_some_and(|name| name == "console") {
            return;
        }
        if let Some(device) = device_from(path.to_owned(), metadata) {
            found.push(device);
        }
    })
    .map_err(failed)?;
    Ok(found)
}

/// What `--device on_host:in_container:permissions` adds: the device itself, or every device below a directory, each
/// with its cgroup rule.
pub fn host_devices(
    on_host: &Path,
    in_container: &Path,
    permissions: &str,
) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>), String> {
    let refuse = |why: &str| {
        format!("error gathering device information while adding custom device \"{}\": {why}", on_host.display())
    };
    // A link that leads nowhere is reported under the name that was given.
    let resolved = fs::canonicalize(on_host).map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound { refuse("no such file or directory") } else { refuse(&e.to_string()) }
    })?;
    let metadata = fs::symlink_metadata(&resolved).map_err(|e| refuse(&e.to_string()))?;
    let mut devices = Vec::new();
    if let Some(device) = device_from(in_container.to_owned(), &metadata) {
        devices.push(device);
    } else if metadata.is_dir() {
        // As Docker, what cannot be read below the directory is left out.
        let _ = walk(&resolved, MAX_DEPTH, &mut |path, metadata| {
            let below = path.strip_prefix(&resolved).unwrap_or(path);
            if let Some(device) = device_from(in_container.join(below), metadata) {
                devices.push(device);
            }
        });
    }
    if devices.is_empty() {
        return Err(refuse("not a device node"));
    }
    let rules = devices
        .iter()
        .map(|d| device_rule(true, Some(d.typ()), Some(d.major()), Some(d.minor()), permissions))
        .collect();
    Ok((devices, rules))
}

struct Failed {
    path: PathBuf,
    source: io::Error,
}

/// Calls `visit` for everything below `directory` that is no directory, in the order of names, following no links.
fn walk(directory: &Path, depth: usize, visit: &mut dyn FnMut(&Path, &Metadata)) -> Result<(), Failed> {
    let failed = |source| Failed { path: directory.to_owned(), source };
    let mut entries = fs::read_dir(directory).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // Devices come and go while we look.
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_dir() {
            visit(&entry.path(), &metadata);
        } else if depth > 0 && !SKIPPED_DIRECTORIES.iter().any(|&name| entry.file_name() == name) {
            match walk(&entry.path(), depth - 1, visit) {
                Err(error) if error.source.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn device_from(path: PathBuf, metadata: &Metadata) -> Option<LinuxDevice> {
    let kind = device_type(metadata.file_type())?;
    let number = metadata.rdev();
    let mut device = LinuxDevice::default();
    device
        .set_path(path)
        .set_typ(kind)
        .set_major(i64::from(rustix::fs::major(number)))
        .set_minor(i64::from(rustix::fs::minor(number)))
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    Some(device)
}

fn device_type(kind: FileType) -> Option<LinuxDeviceType> {
    if kind.is_char_device() {
        Some(LinuxDeviceType::C)
    } else if kind.is_block_device() {
        Some(LinuxDeviceType::B)
    } else {
        None
    }
}
