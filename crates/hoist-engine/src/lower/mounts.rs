//! Mounts: the default ones, adjusted, then the user's, then the files that Docker binds.

use std::path::{Path, PathBuf};

use hoist_runtime::launch::Subpath;
use oci_spec::runtime::{Mount, Spec};

use crate::container::record::{MountRecord, Record};
use crate::error::{Error, Result};
use crate::lower::{Surroundings, linux, namespaces, propagation};

/// The parts of volumes that are mounted; the spec has the volumes.
pub(super) fn subpaths(record: &Record) -> Vec<Subpath> {
    let part = |mount: &MountRecord| {
        let (_, path) = source(mount);
        let destination = PathBuf::from(&mount.point.destination);
        (!path.as_os_str().is_empty()).then(|| Subpath { destination, path: path.to_owned() })
    };
    record.fixed.mounts.iter().filter_map(part).collect()
}

/// Where a mount's source is, and what of it is mounted. Records of earlier versions have both in one path, which would
/// lead elsewhere once a container has put a link into the volume.
fn source(mount: &MountRecord) -> (&Path, &Path) {
    let volume = Path::new(&mount.point.source);
    match mount.source.strip_prefix(volume) {
        Ok(part) if mount.point.r#type == "volume" && !part.as_os_str().is_empty() => (volume, part),
        _ => (&mount.source, Path::new(&mount.subpath)),
    }
}

/// Fills `mounts`, masked and read-only paths.
pub(super) fn fill(spec: &mut Spec, record: &Record, around: &Surroundings<'_>) -> Result<()> {
    let host = &record.fixed.host_config;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    shared_memory(&mut mounts, record, around)?;
    for user in &record.fixed.mounts {
        mounts.retain(|m| m.destination() != Path::new(&user.point.destination));
    }
    record.fixed.mounts.iter().try_for_each(propagation::check)?;
    mounts.extend(record.fixed.mounts.iter().map(user_mount));
    mounts.extend(files(record, around)?);
    spec.set_mounts(Some(mounts));
    let linux = linux(spec)?;
    linux.set_masked_paths(host.masked_paths.clone());
    linux.set_readonly_paths(host.readonly_paths.clone());
    if let Some(propagation) = root_propagation(record) {
        linux.set_rootfs_propagation(Some(propagation.to_owned()));
    }
    Ok(())
}

/// `/dev/shm` after the ipc mode and `--shm-size`.
fn shared_memory(mounts: &mut Vec<Mount>, record: &Record, around: &Surroundings<'_>) -> Result<()> {
    let host = &record.fixed.host_config;
    let shm = Path::new("/dev/shm");
    match host.ipc_mode.as_str() {
        "none" => mounts.retain(|m| m.destination() != shm),
        "host" => bind_over(mounts, shm, PathBuf::from("/dev/shm")),
        mode => {
            if let Some(name) = mode.strip_prefix("container:") {
                let other = (around.peer)(name).map_err(|e| namespaces::not_joined("IPC", name, e))?;
                if !other.ipc_shareable {
                    return Err(Error::conflict(format!(
                        "cannot join IPC namespace of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                        other.id
                    )));
                }
                bind_over(mounts, shm, other.directory.join("shm"));
            } else if mode == "shareable" {
                bind_over(mounts, shm, around.directory.join("shm"));
            } else {
                for mount in mounts.iter_mut().filter(|m| m.destination() == shm) {
                    let mut options = mount.options().clone().unwrap_or_default();
                    options.retain(|o| !o.starts_with("size="));
                    options.push(format!("size={}", host.shm_size));
                    mount.set_options(Some(options));
                }
            }
        }
    }
    Ok(())
}

fn bind_over(mounts: &mut Vec<Mount>, destination: &Path, source: PathBuf) {
    mounts.retain(|m| m.destination() != destination);
    mounts.push(bind(&source, &destination.to_string_lossy(), &["rbind", "rprivate"]));
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|&o| o.to_owned()).collect()));
    mount
}

fn user_mount(record: &MountRecord) -> Mount {
    let mut mount = Mount::default();
    let source = if record.kind == "tmpfs" { Path::new("tmpfs") } else { source(record).0 };
    mount
        .set_destination(PathBuf::from(&record.point.destination))
        .set_typ(Some(record.kind.clone()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(record.options.clone()));
    mount
}

/// `/etc/resolv.conf`, `/etc/hostname`, `/etc/hosts`, unless the user mounted something there.
fn files(record: &Record, around: &Surroundings<'_>) -> Result<Vec<Mount>> {
    let directory = match record.fixed.host_config.network_mode.strip_prefix("container:") {
        Some(name) => (around.peer)(name)?.run_dir,
        None => around.run_dir.to_owned(),
    };
    let mut mounts = Vec::new();
    for (file, destination) in
        [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
    {
        if !record.fixed.mounts.iter().any(|m| m.point.destination == destination) {
            let access = if record.fixed.host_config.readonly_rootfs { "ro" } else { "rw" };
            mounts.push(bind(&directory.join(file), destination, &["rbind", "rprivate", access]));
        }
    }
    Ok(mounts)
}

/// Binds with shared or slave propagation need a root that passes it on.
fn root_propagation(record: &Record) -> Option<&'static str> {
    let uses = |word: &str| record.fixed.mounts.iter().any(|m| m.point.propagation == word);
    if uses("rshared") || uses("shared") {
        return Some("shared");
    }
    (uses("rslave") || uses("slave")).then_some("rslave")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_volume_is_told_from_the_volume_in_records_of_any_version() {
        let record = |source: &str, subpath: Option<&str>| -> MountRecord {
            let point = hoist_api::container::MountPoint {
                r#type: "volume".to_owned(),
                source: "/v/_data".to_owned(),
                ..Default::default()
            };
            let mut json = serde_json::json!({ "point": point, "source": source, "options": [], "kind": "bind" });
            if let Some(subpath) = subpath {
                json["subpath"] = subpath.into();
            }
            serde_json::from_value(json).unwrap()
        };
        let parts = (Path::new("/v/_data"), Path::new("a/b"));
        assert_eq!(source(&record("/v/_data", Some("a/b"))), parts);
        assert_eq!(source(&record("/v/_data/a/b", None)), parts);
        assert_eq!(source(&record("/v/_data", None)), (parts.0, Path::new("")));
        // A volume that binds a directory of the host.
        assert_eq!(source(&record("/host", Some("a/b"))), (Path::new("/host"), parts.1));
    }
}
