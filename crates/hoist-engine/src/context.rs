//! What the tasks of all containers share: settings, stores, and the books of who is there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_image::Store;
use hoist_network::Networks;
use hoist_runtime::spawner::Spawner;
use hoist_volume::Volumes;

use crate::container::handle::Handle;
use crate::container::record::{Record, Records};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::exec::Registry;
use crate::links;
use crate::lower::{Peer, Programs};
use crate::settings::Settings;

/// What every container's task shares.
#[derive(Debug)]
pub(crate) struct Context {
    pub settings: Settings,
    pub records: Records,
    pub images: Store,
    pub networks: Networks,
    pub volumes: Volumes,
    pub spawner: Spawner,
    pub events: Events,
    pub seccomp: Programs,
    pub execs: Registry,
    /// Held while images go because all together are too much.
    pub budget: Mutex<()>,
    index: Mutex<Index>,
}

/// Who is there.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub by_id: HashMap<String, Handle>,
    /// Reserved names; the container may still be in the making.
    pub by_name: HashMap<String, String>,
}

/// The parts a [`Context`] is made of.
pub(crate) struct Parts {
    pub settings: Settings,
    pub records: Records,
    pub images: Store,
    pub networks: Networks,
    pub volumes: Volumes,
    pub spawner: Spawner,
    pub events: Events,
}

impl Context {
    pub(crate) fn new(parts: Parts) -> Context {
        let Parts { settings, records, images, networks, volumes, spawner, events } = parts;
        Context {
            settings,
            records,
            images,
            networks,
            volumes,
            spawner,
            events,
            seccomp: Programs::default(),
            execs: Registry::default(),
            budget: Mutex::default(),
            index: Mutex::default(),
        }
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        // The maps are changed in single steps: a panic elsewhere left them whole.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's directory below the root.
    pub(crate) fn directory(&self, id: &str) -> PathBuf {
        self.settings.root.join("containers").join(id)
    }

    /// The container's directory below the run directory.
    pub(crate) fn run_directory(&self, id: &str) -> PathBuf {
        self.settings.run_dir.join("containers").join(id)
    }

    /// What the supervisor wrote of the end of the container's last run: where it belongs, or, if that disk was full, with
    /// what dies with the boot.
    pub(crate) fn read_exit(&self, record: &Record) -> Option<hoist_runtime::protocol::Exit> {
        let places = [self.exit_directory(record), self.run_directory(record.id())];
        places.iter().find_map(|directory| crate::adopt::read_exit(directory, record.state.started_ns))
    }

    /// Where the supervisor leaves the exit file: with the container, unless the container goes when it ends.
    pub(crate) fn exit_directory(&self, record: &Record) -> PathBuf {
        if record.durable() { self.directory(record.id()) } else { self.run_directory(record.id()) }
    }

    /// The container's control group.
    pub(crate) fn cgroup_path(&self, record: &Record) -> PathBuf {
        let own = &record.fixed.host_config.resources.cgroup_parent;
        let parent = if own.is_empty() { &self.settings.cgroup_parent } else { own };
        PathBuf::from("/").join(parent.trim_start_matches('/')).join(record.id())
    }

    /// A running container named in a `container:X` mode.
    pub(crate) fn peer(&self, name: &str) -> Result<Peer> {
        let record = self.find(name)?.record();
        if !record.state.status.alive() {
            return Err(Error::conflict(format!(
                "cannot join network namespace of a non running container: container {} is {}",
                record.name,
                record.state.status.word()
            )));
        }
        Ok(Peer {
            id: record.id().to_owned(),
            name: record.name.clone(),
            address: record.state.endpoint.as_ref().map(|endpoint| endpoint.ip),
            env: record.fixed.config.env.clone().unwrap_or_default(),
            exposed: record.fixed.config.exposed_ports.iter().flatten().map(|(port, _)| port.clone()).collect(),
            pid: record.state.pid,
            directory: self.directory(record.id()),
            run_dir: self.run_directory(record.id()),
            hostname: record.fixed.config.hostname.clone(),
            ipc_shareable: record.fixed.host_config.ipc_mode == "shareable",
        })
    }

    /// The running containers that are linked to others, with the directories of their runs.
    pub(crate) fn linked(&self) -> Vec<(Arc<Record>, PathBuf)> {
        let has_links = |record: &Arc<Record>| {
            record.state.status.alive()
                && record.fixed.host_config.links.as_ref().is_some_and(|links| !links.is_empty())
        };
        let linked: Vec<_> = self.index().by_id.values().map(Handle::record).filter(has_links).collect();
        linked.into_iter().map(|record| (record.clone(), self.run_directory(record.id()))).collect()
    }

    /// Finds a container by full id, name, or unique id prefix.
    pub(crate) fn find(&self, name: &str) -> Result<Handle> {
        let index = self.index();
        if let Some(handle) = index.by_id.get(name) {
            return Ok(handle.clone());
        }
        let bare = name.strip_prefix('/').unwrap_or(name);
        if let Some(handle) = index.by_name.get(bare).and_then(|id| index.by_id.get(id)) {
            return Ok(handle.clone());
        }
        if name.is_empty() {
            return Err(Error::no_such_container(name));
        }
        // Another's name for it: `web/db`.
        if let Some((parent, alias)) = bare.split_once('/') {
            let parent = index.by_name.get(parent).and_then(|id| index.by_id.get(id)).map(Handle::record);
            let target = parent.as_ref().and_then(|parent| links::target(parent, alias));
            let found = target.and_then(|id| index.by_id.get(id)).cloned();
            return found.ok_or_else(|| Error::no_such_container(name));
        }
        let mut matching = index.by_id.iter().filter(|(id, _)| id.starts_with(name));
        match (matching.next(), matching.next()) {
            (Some((_, handle)), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {name}"))),
            (None, _) => Err(Error::no_such_container(name)),
        }
    }

    /// Takes a removed container out of the books, with `volumes` the anonymous ones that it had. Its directories are deleted in
    /// the background.
    pub(crate) fn forget(&self, record: &Record, volumes: bool) {
        let id = record.id().to_owned();
        {
            let mut index = self.index();
            index.by_id.remove(&id);
            index.by_name.remove(&record.name);
        }
        self.execs.forget_container(&id);
        // It was in use until now.
        self.images.touch(&record.fixed.image_id);
        let directory = self.directory(&id);
        let grave = self.settings.root.join("removed").join(&id);
        // Renamed first: a name that is gone from the books must not be found on disk by a later engine.
        let renamed = std::fs::rename(&directory, &grave).is_ok();
        let run_dir = self.run_directory(&id);
        let (images, store) = (self.images.clone(), id.clone());
        if let Err(e) = self.volumes.release(&id, volumes) {
            tracing::warn!(container = id, "cannot give back the container's volumes: {e}");
        }
        tokio::task::spawn_blocking(move || {
            crate::ipc::unmount(if renamed { &grave } else { &directory });
            _ = std::fs::remove_dir_all(if renamed { &grave } else { &directory });
            _ = std::fs::remove_dir_all(&run_dir);
            if let Err(e) = images.release(&store) {
                tracing::warn!(container = store, "cannot release the image: {e}");
            }
        });
    }
}
