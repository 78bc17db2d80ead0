//! Creating a container: checks, merge with the image, mounts, the record. Nothing is left behind when it fails.

pub(crate) mod merge;
pub(crate) mod mounts;
pub(crate) mod validate;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hoist_api::container::{Config, CreateBody};
use hoist_api::host_config::HostConfig;
use hoist_api::network::{EndpointSettings, NetworkingConfig};
use hoist_api::platform::Platform;
use hoist_api::time::now_ns;
use hoist_image::Image;

use crate::container::record::{Fixed, Record, State};
use crate::containers::Containers;
use crate::context::Context;
use crate::create::mounts::VolumeUse;
use crate::error::{Error, Result, Translate, io};
use crate::images::check_platform;
use crate::{links, merged, names};

/// Layers of an image that overlayfs takes, beside the one of the files that name hosts (`OVL_MAX_STACK` of the kernel).
const MAX_LAYERS: usize = 499;

/// What a create request asks for.
#[derive(Clone, Debug, Default)]
pub struct CreateRequest {
    /// Without or with a leading slash; empty: a random one.
    pub name: String,
    /// `os/arch[/variant]`; empty: whatever the image is.
    pub platform: String,
    pub body: CreateBody,
}

/// When the record of a new container is written to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Before create returns.
    Now,
    /// With the start, which must follow at once: it is written while the container is being prepared, and the container's
    /// program runs only when it is written.
    WithStart,
}

/// Checks the request and makes the container; returns its id and warnings.
pub(crate) fn create(
    containers: &Containers,
    request: CreateRequest,
    recording: Recording,
) -> Result<(String, Vec<String>)> {
    let context = containers.context();
    let CreateBody { mut config, mut host_config, networking_config } = request.body;
    if config == Config::default() {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    }
    let image = find_image(context, &config.image, &request.platform)?;
    context.images.admits(&image, &config.image).api()?;
    context.check_room()?;
    check_working_directory(context, &image, &config.working_dir)?;
    merge::with_image(&mut config, &image.config);
    merge::host_defaults(&mut host_config, &context.settings, hoist_runtime::cgroup::version());
    let warnings = merge::discard_unsupported(&mut host_config, hoist_runtime::cgroup::version());
    validate::request(&config, &host_config, &context.settings)?;
    let (path, args) = command(&config)?;
    crate::networks::port_requests(&config, &host_config)?;
    let id = names::random_id();
    default_hostname(&mut config, &host_config, &id);
    expose_published(&mut config, &host_config);
    let endpoints = endpoints(networking_config, &host_config.network_mode)?;
    let id_of = |name: &str| Ok(containers.get(name)?.record().id().to_owned());
    links::resolve(&mut host_config, &id_of)?;
    name_peers_by_id(&mut host_config, &id_of)?;
    let wanted = request.name.trim_start_matches('/');
    if wanted.is_empty() && !request.name.is_empty() {
        return Err(crate::containers::invalid_name(&request.name));
    }
    let name = containers.reserve_name(wanted, &id)?;
    let made = Making { context, containers, id: &id, name: &name, done: false };
    let resolved = mounts::resolve(&id, &config, &host_config, &context.volumes, &|other| {
        // Not "not found": clients take that for a missing image.
        let found = containers.get(other).map_err(|e| Error::invalid(e.message))?;
        Ok(found.record().fixed.mounts.clone())
    })?;
    let mut layers = context.images.layer_paths(&image);
    if layers.len() > MAX_LAYERS {
        let count = layers.len();
        return Err(Error::invalid(format!(
            "max depth exceeded: the image has {count} layers, more than {MAX_LAYERS}"
        )));
    }
    layers.push(crate::init_layer::path(&context.settings.root));
    let fixed = Fixed {
        id: id.clone(),
        created_ns: now_ns(),
        image_id: image.id.clone(),
        endpoints,
        path,
        args,
        mounts: resolved.mounts,
        layers,
        platform: format!("{}/{}", image.os, image.architecture),
        image_size_bytes: image.size_bytes,
        config,
        host_config,
    };
    let record = Record { name: name.clone(), fixed: Arc::new(fixed), state: State::default() };
    fill_volumes(context, &record, &resolved.volumes)?;
    let lease = context.images.lease_deferred(&id, &image).api()?;
    make_directories(&context.directory(&id))?;
    let unrecorded = match recording {
        Recording::Now => {
            context.records.insert(&record, lease, record.durable())?;
            None
        }
        Recording::WithStart => Some(lease),
    };
    containers.insert_new(record.clone(), unrecorded);
    made.finish();
    context.events.emit("container", "create", &id, record.event_attributes());
    context.images.touch(&image.id);
    Ok((id, warnings))
}

/// Docker's default: the short id, or the host's name where the container has no UTS namespace of its own.
fn default_hostname(config: &mut Config, host_config: &HostConfig, id: &str) {
    if config.hostname.is_empty() && !host_config.network_mode.starts_with("container:") {
        config.hostname = if host_config.network_mode == "host" || host_config.uts_mode == "host" {
            host_name()
        } else {
            id[..12].to_owned()
        };
    }
}

/// Refuses a working directory that the image has a file in the place of. It is made at the start, if it is not there.
fn check_working_directory(context: &Context, image: &Arc<Image>, path: &str) -> Result<()> {
    if path.starts_with('/') && merged::is_file(&context.images.layer_paths(image), Path::new(path)) {
        return Err(Error::invalid(format!("Cannot mkdir: {path} is not a directory")));
    }
    Ok(())
}

/// `container:<name>` becomes `container:<id>`: the other may be renamed. For its network it need not be there yet.
fn name_peers_by_id(host: &mut HostConfig, find: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    for (mode, at_once) in [(&mut host.pid_mode, true), (&mut host.ipc_mode, true), (&mut host.network_mode, false)] {
        let Some(name) = mode.strip_prefix("container:").filter(|name| !name.is_empty()) else { continue };
        match find(name) {
            Ok(id) => *mode = format!("container:{id}"),
            // Not "not found": clients take that for a missing image.
            Err(e) if at_once => return Err(Error::invalid(e.message)),
            Err(_) => {}
        }
    }
    Ok(())
}

/// The endpoints asked for; one in the container's only network at most.
fn endpoints(networking: NetworkingConfig, mode: &str) -> Result<BTreeMap<String, EndpointSettings>> {
    let mut endpoints = networking.endpoints_config;
    if let Some(default) = endpoints.remove("default") {
        endpoints.insert("bridge".to_owned(), default);
    }
    for (network, wish) in &endpoints {
        validate::endpoint(network, wish)?;
    }
    if endpoints.len() > 1 || endpoints.keys().any(|name| name != mode) {
        return Err(Error::not_implemented(
            "user-defined networks are not supported by this engine: use the default bridge, host, none or container:<name>",
        ));
    }
    Ok(endpoints)
}

/// Undoes a create that failed half-way.
struct Making<'a> {
    context: &'a Context,
    containers: &'a Containers,
    id: &'a str,
    name: &'a str,
    done: bool,
}

impl Making<'_> {
    fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.containers.release_name(self.name);
        _ = self.context.images.release(self.id);
        _ = self.context.volumes.release(self.id, true);
        _ = std::fs::remove_dir_all(self.context.directory(self.id));
    }
}

fn find_image(context: &Context, name: &str, platform: &str) -> Result<Arc<Image>> {
    if name.is_empty() {
        return Err(Error::invalid("invalid reference format"));
    }
    let image = context.images.get(name).api()?;
    let wanted = match platform {
        "" => None,
        text => Some(Platform::parse(text).map_err(Error::invalid)?),
    };
    check_platform(&image, name, wanted.as_ref())?;
    Ok(image)
}

pub(crate) fn command(config: &Config) -> Result<(String, Vec<String>)> {
    let entrypoint = config.entrypoint.iter().flatten();
    let mut words = entrypoint.chain(config.cmd.iter().flatten()).cloned();
    let path = words.next().ok_or_else(|| Error::invalid("no command specified"))?;
    Ok((path, words.collect()))
}

/// The CLI lists published ports among the exposed ones; with `--publish-all` nothing more is needed.
fn expose_published(config: &mut Config, host: &HostConfig) {
    if host.port_bindings.is_empty() && config.exposed_ports.as_ref().is_some_and(std::collections::BTreeMap::is_empty)
    {
        config.exposed_ports = None;
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Holds every volume and fills the empty ones from the image.
fn fill_volumes(context: &Context, record: &Record, volumes: &[VolumeUse]) -> Result<()> {
    // All first: nobody else removes what is being filled.
    for volume in volumes {
        volume.by.map_or(Ok(()), |by| context.volumes.hold(&volume.name, record.id(), by)).api()?;
    }
    for volume in volumes.iter().filter(|volume| volume.copy) {
        let (layers, relative) = (&record.fixed.layers, Path::new(&volume.path));
        tokio::task::block_in_place(|| context.volumes.copy_up(&volume.name, layers, relative)).api()?;
    }
    Ok(())
}

fn make_directories(directory: &Path) -> Result<()> {
    std::fs::create_dir(directory).map_err(io("create", directory))?;
    for name in ["upper", "work"] {
        let path = directory.join(name);
        std::fs::create_dir(&path).map_err(io("create", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_kept_by_id() {
        let find = |name: &str| if name == "db" { Ok("1234".to_owned()) } else { Err(Error::no_such_container(name)) };
        let host = |pid: &str, ipc: &str, network: &str| HostConfig {
            pid_mode: pid.into(),
            ipc_mode: ipc.into(),
            network_mode: network.into(),
            ..Default::default()
        };
        let mut known = host("container:db", "container:", "container:db");
        name_peers_by_id(&mut known, &find).unwrap();
        assert_eq!(known, host("container:1234", "container:", "container:1234"));
        name_peers_by_id(&mut host("", "private", "container:nope"), &find).unwrap();
        let refused = name_peers_by_id(&mut host("container:nope", "", "bridge"), &find).unwrap_err();
        assert_eq!((refused.kind.status(), refused.message.as_str()), (400, "No such container: nope"));
    }
}
