//! Binds, mounts, tmpfs and volumes of a create request, resolved to what will be mounted.

mod bind;
pub(crate) mod subpath;
mod tmpfs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoist_api::container::{Config, MountPoint};
use hoist_api::host_config::{HostConfig, Mount};
use hoist_volume::{By, Volumes};

use crate::container::record::MountRecord;
use crate::error::{Error, Result, Translate};

/// Everything that is mounted into one container, sorted so that parents come before children.
pub(crate) struct Resolved {
    pub mounts: Vec<MountRecord>,
    pub volumes: Vec<VolumeUse>,
}

/// A volume that a container has.
pub(crate) struct VolumeUse {
    pub name: String,
    /// In the container.
    pub path: String,
    /// It is to be filled from the image.
    pub copy: bool,
    /// How it came to the container. `None`: it was made for it, which holds it already.
    pub by: Option<By>,
}

/// Resolves all mounts of a request of container `id`; `others` gives the mounts of a container named in `--volumes-from`.
/// Volumes made for the container are held by it, also when this fails.
pub(crate) fn resolve(
    id: &str,
    config: &Config,
    host: &HostConfig,
    volumes: &Volumes,
    others: &dyn Fn(&str) -> Result<Vec<MountRecord>>,
) -> Result<Resolved> {
    let mut found = Collected { id, by_path: BTreeMap::new(), volumes: Vec::new(), store: volumes };
    found.collect(config, host, others)?;
    Ok(Resolved { mounts: found.by_path.into_values().collect(), volumes: found.volumes })
}

/// Why [`clean_target`] refuses a path.
fn why_no_target(path: &str) -> String {
    if path.starts_with('/') && !path.contains('\0') {
        "invalid specification: destination can't be '/'".to_owned()
    } else {
        format!("invalid mount path: '{path}' mount path must be absolute")
    }
}

/// An absolute, clean path without `..`; not the root.
fn clean_target(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("/{}", parts.join("/")))
}

#[derive(Default)]
struct VolumeMount {
    copy: bool,
    rw: bool,
    mode: String,
    driver: String,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    subpath: String,
}

struct Collected<'a> {
    id: &'a str,
    by_path: BTreeMap<String, MountRecord>,
    volumes: Vec<VolumeUse>,
    store: &'a Volumes,
}

impl Collected<'_> {
    fn collect(
        &mut self,
        config: &Config,
        host: &HostConfig,
        others: &dyn Fn(&str) -> Result<Vec<MountRecord>>,
    ) -> Result<()> {
        self.inherit(host, others)?;
        let inherited: Vec<String> = self.by_path.keys().cloned().collect();
        let mut seen: Vec<String> = Vec::new();
        let mut once = |path: &str| -> Result<()> {
            if seen.iter().any(|p| p == path) {
                return Err(Error::invalid(format!("Duplicate mount point: {path}")));
            }
            seen.push(path.to_owned());
            Ok(())
        };
        for text in host.binds.iter().flatten() {
            let bind = bind::parse(text)?;
            once(&bind.destination)?;
            self.bind(bind, &host.volume_driver)?;
        }
        for mount in host.mounts.iter().flatten() {
            let target = clean_target(&mount.target).ok_or_else(|| {
                let why = why_no_target(&mount.target);
                Error::invalid(format!("invalid mount config for type {:?}: {why}", mount.r#type))
            })?;
            once(&target)?;
            self.mount(mount, target)?;
        }
        for (path, options) in host.tmpfs.iter().flatten() {
            let target = clean_target(path).ok_or_else(|| Error::invalid(why_no_target(path)))?;
            once(&target)?;
            self.by_path.insert(target.clone(), tmpfs::record(target, tmpfs::options(options)?));
        }
        for path in config.volumes.iter().flatten().map(|(path, _)| path) {
            // A relative one is below the root, as with Docker.
            let target = clean_target(&format!("/{path}")).ok_or_else(|| {
                Error::invalid(format!("invalid volume specification: '{path}': {}", why_no_target("/")))
            })?;
            if !self.by_path.contains_key(&target) && !inherited.contains(&target) {
                self.volume("", &target, &VolumeMount { copy: true, rw: true, ..VolumeMount::default() })?;
            }
        }
        Ok(())
    }

    /// `--volumes-from`
    fn inherit(&mut self, host: &HostConfig, others: &dyn Fn(&str) -> Result<Vec<MountRecord>>) -> Result<()> {
        for wanted in host.volumes_from.iter().flatten() {
            let (name, mode) = wanted.split_once(':').unwrap_or((wanted, ""));
            if name.is_empty() {
                return Err(Error::invalid("volumes-from specification cannot be an empty string"));
            }
            if !matches!(mode, "" | "ro" | "rw" | "z" | "Z") {
                return Err(Error::invalid(format!("invalid mode: {mode}")));
            }
            for mut mount in others(name)? {
                if mode == "ro" {
                    mount.point.rw = false;
                    mount.options.retain(|o| o != "rw");
                    mount.options.push("ro".to_owned());
                }
                if mount.point.r#type == "volume" {
                    let (name, path) = (mount.point.name.clone(), mount.point.destination.clone());
                    self.volumes.push(VolumeUse { name, path, copy: false, by: Some(By::Container) });
                }
                self.by_path.insert(mount.point.destination.clone(), mount);
            }
        }
        Ok(())
    }

    fn bind(&mut self, bind: bind::Bind, driver: &str) -> Result<()> {
        let has = |o: &str| bind.options.iter().any(|x| x == o);
        let rw = !has("ro") && !has("rro");
        let mut mode = bind.options.join(",");
        if !bind.source.starts_with('/') {
            if mode.is_empty() {
                // Docker's default for volumes with a name.
                "z".clone_into(&mut mode);
            }
            let mount =
                VolumeMount { copy: !has("nocopy"), rw, mode, driver: driver.to_owned(), ..VolumeMount::default() };
            return self.volume(&bind.source, &bind.destination, &mount);
        }
        let source = PathBuf::from(&bind.source);
        if !source.exists() {
            make_source(&source)?;
        }
        let propagation = bind::PROPAGATIONS.iter().find(|p| has(p)).copied().unwrap_or("rprivate");
        self.bind_record(
            source,
            bind.destination,
            BindMount { rw, mode, propagation, recursive: true, recursive_read_only: has("rro") },
        );
        Ok(())
    }

    fn bind_record(&mut self, source: PathBuf, destination: String, how: BindMount<'_>) {
        let mut options = vec![if how.recursive { "rbind" } else { "bind" }.to_owned(), how.propagation.to_owned()];
        options.push(
            match (how.rw, how.recursive_read_only) {
                (true, _) => "rw",
                (false, true) => "rro",
                (false, false) => "ro",
            }
            .to_owned(),
        );
        let point = MountPoint {
            r#type: "bind".to_owned(),
            source: source.to_string_lossy().into_owned(),
            destination: destination.clone(),
            mode: how.mode,
            rw: how.rw,
            propagation: how.propagation.to_owned(),
            ..MountPoint::default()
        };
        self.by_path.insert(
            destination,
            MountRecord { point, source, subpath: String::new(), options, kind: "bind".to_owned() },
        );
    }

    fn volume(&mut self, name: &str, destination: &str, how: &VolumeMount) -> Result<()> {
        let (options, labels) = (how.options.clone(), how.labels.clone());
        let (volume, by) = if name.is_empty() {
            (self.store.create_for(self.id, &how.driver, options, labels).api()?, None)
        } else {
            (self.store.create(name, &how.driver, options, labels).api()?, Some(By::Name))
        };
        let spec = volume.mount_spec();
        let source = match &spec {
            Some(spec) if spec.is_bind() => PathBuf::from(&spec.source),
            _ => volume.mountpoint.clone(),
        };
        if !how.subpath.is_empty()
            && let Some(spec) = volume.own_mount()
        {
            return Err(Error::not_implemented(format!(
                "a subpath of volume {}, whose options mount {}, is not supported by this engine",
                volume.name, spec.fstype
            )));
        }
        let point = MountPoint {
            r#type: "volume".to_owned(),
            name: volume.name.clone(),
            source: volume.mountpoint.to_string_lossy().into_owned(),
            destination: destination.to_owned(),
            driver: volume.driver.clone(),
            mode: how.mode.clone(),
            rw: how.rw,
            propagation: String::new(),
        };
        let access = if how.rw { "rw" } else { "ro" };
        let options = ["rbind", "rprivate", access].map(str::to_owned).to_vec();
        let record = MountRecord { point, source, subpath: how.subpath.clone(), options, kind: "bind".to_owned() };
        self.by_path.insert(destination.to_owned(), record);
        self.volumes.push(VolumeUse { name: volume.name, path: destination.to_owned(), copy: how.copy, by });
        Ok(())
    }

    fn mount(&mut self, mount: &Mount, target: String) -> Result<()> {
        let bad = |why: String| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.r#type));
        let wrong_options = [
            ("bind", mount.bind_options.is_some(), "BindOptions"),
            ("volume", mount.volume_options.is_some(), "VolumeOptions"),
            ("tmpfs", mount.tmpfs_options.is_some(), "TmpfsOptions"),
        ];
        for (kind, given, field) in wrong_options {
            if given && kind != mount.r#type {
                return Err(bad(format!("field {field} must not be specified")));
            }
        }
        match mount.r#type.as_str() {
            "bind" => self.bind_mount(mount, target, bad),
            "volume" => {
                let options = mount.volume_options.clone().unwrap_or_default();
                let driver = options.driver_config.unwrap_or_default();
                if mount.source.is_empty() && !options.subpath.is_empty() {
                    return Err(bad("must not set Subpath when using anonymous volumes".to_owned()));
                }
                let subpath = subpath::clean(&options.subpath)
                    .ok_or_else(|| bad("subpath must be a relative path within the volume".to_owned()))?;
                let how = VolumeMount {
                    copy: !options.no_copy,
                    rw: !mount.read_only,
                    mode: "z".to_owned(),
                    driver: driver.name,
                    options: driver.options,
                    labels: options.labels,
                    subpath,
                };
                self.volume(&mount.source, &target, &how)
            }
            "tmpfs" => {
                if !mount.source.is_empty() {
                    return Err(bad("field Source must not be specified".to_owned()));
                }
                let given = mount.tmpfs_options.clone().unwrap_or_default();
                if given.size_bytes < 0 {
                    return Err(bad("size must not be negative".to_owned()));
                }
                self.by_path.insert(target.clone(), tmpfs::record(target, tmpfs::of_mount(&given, mount.read_only)));
                Ok(())
            }
            "" => Err(Error::invalid("invalid mount config: mount type must not be empty")),
            "image" => Err(Error::not_implemented("mounts of type image are not supported by this engine")),
            other => Err(Error::invalid(format!("invalid mount config for type \"{other}\": mount type unknown"))),
        }
    }

    fn bind_mount(&mut self, mount: &Mount, target: String, bad: impl Fn(String) -> Error) -> Result<()> {
        let options = mount.bind_options.clone().unwrap_or_default();
        if mount.source.is_empty() {
            return Err(bad("field Source must not be empty".to_owned()));
        }
        if !mount.source.starts_with('/') {
            return Err(bad(format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
        }
        let source = PathBuf::from(&mount.source);
        if !source.exists() {
            if !options.create_mountpoint {
                return Err(bad(format!("bind source path does not exist: {}", mount.source)));
            }
            make_source(&source)?;
        }
        let propagation = if options.propagation.is_empty() { "rprivate" } else { options.propagation.as_str() };
        if !bind::PROPAGATIONS.contains(&propagation) {
            return Err(bad(format!("invalid propagation mode: {propagation}")));
        }
        self.bind_record(
            source,
            target,
            BindMount {
                rw: !mount.read_only,
                mode: String::new(),
                propagation,
                recursive: !options.non_recursive,
                recursive_read_only: options.read_only_force_recursive,
            },
        );
        Ok(())
    }
}

struct BindMount<'a> {
    rw: bool,
    mode: String,
    propagation: &'a str,
    recursive: bool,
    recursive_read_only: bool,
}
/// Makes the source of a bind mount, in Docker's words where it cannot.
fn make_source(source: &Path) -> Result<()> {
    std::fs::create_dir_all(source).map_err(|error| {
        let (path, text) = (source.display(), hoist_sys::errno_text(&error));
        Error::internal(format!("error while creating mount source path '{path}': mkdir {path}: {text}"))
    })
}
