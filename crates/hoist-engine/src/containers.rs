//! All containers of an engine: lookup by id, name and prefix, and one handle for each.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_api::container::{Change, PruneReport, Summary, Top};
use hoist_api::filters::Filters;
use hoist_api::host_config::UpdateBody;
use hoist_api::inspect::Container;
use hoist_image::Store;
use hoist_network::Networks;
use hoist_runtime::spawner::Spawner;
use hoist_volume::Volumes;

use crate::container::attach::{self, AttachOptions, Attachment};
use crate::container::driver::{self, Beginning, Event, Handle, Phases};
use crate::container::record::{Record, Records};
use crate::container::{changes, inspect, list, stop, top, update};
use crate::create::{self, CreateRequest, Recording};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::exec::Registry;
use crate::links;
use crate::listing;
use crate::lower::{Peer, Programs};
use crate::names;
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

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<String, Handle>,
    /// Reserved names; the container may still be in the making.
    by_name: HashMap<String, String>,
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

    fn index(&self) -> MutexGuard<'_, Index> {
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
            return Err(Error::conflict(format!("cannot join network of a non running container: {}", record.id())));
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

    fn find(&self, name: &str) -> Result<Handle> {
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

    /// Takes a removed container out of the books. Its directories are deleted in the background.
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
        let dropped = self.volumes.drop_holds(&id).unwrap_or_default();
        if volumes {
            for name in dropped {
                if let Err(e) = self.volumes.remove(&name, true) {
                    tracing::warn!(container = id, "cannot remove anonymous volume {name}: {e}");
                }
            }
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

/// The handle on all containers. Clones share it.
#[derive(Clone, Debug)]
pub struct Containers {
    context: Arc<Context>,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    NotRunning,
    NextExit,
    Removed,
}

impl WaitCondition {
    /// Parses the query parameter.
    pub fn parse(text: &str) -> Result<WaitCondition> {
        match text {
            "" | "not-running" => Ok(WaitCondition::NotRunning),
            "next-exit" => Ok(WaitCondition::NextExit),
            "removed" => Ok(WaitCondition::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// What `GET /containers/json` asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub all: bool,
    /// The newest N, running or not; 0 or less: no limit.
    pub limit: i64,
    pub size: bool,
    pub filters: Filters,
}

impl Containers {
    pub(crate) fn new(context: Arc<Context>) -> Containers {
        Containers { context }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Finds a container by full id, name, or unique id prefix.
    pub(crate) fn get(&self, name: &str) -> Result<Handle> {
        self.context.find(name)
    }

    /// A snapshot of one container.
    pub fn record(&self, name: &str) -> Result<Arc<Record>> {
        Ok(self.get(name)?.record())
    }

    /// Snapshots of all containers, newest first.
    pub fn records(&self) -> Vec<Arc<Record>> {
        let mut records: Vec<_> = self.context.index().by_id.values().map(Handle::record).collect();
        records.sort_by_key(|r| std::cmp::Reverse(r.fixed.created_ns));
        records
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.context.index().by_id.values().cloned().collect()
    }

    /// Puts a record into the books and starts its task.
    pub(crate) fn insert(&self, record: Record) -> Handle {
        self.insert_with(record, Beginning::Recorded)
    }

    pub(crate) fn insert_linked(&self, record: Record, link: hoist_runtime::spawner::Link) -> Handle {
        self.insert_with(record, Beginning::Adopted(link))
    }

    /// `unrecorded`: the record is to be written to the database yet, with this lease.
    pub(crate) fn insert_new(&self, record: Record, unrecorded: Option<hoist_image::LeaseChange>) -> Handle {
        self.insert_with(record, unrecorded.map_or(Beginning::Recorded, Beginning::Unrecorded))
    }

    fn insert_with(&self, record: Record, beginning: Beginning) -> Handle {
        let (id, name) = (record.id().to_owned(), record.name.clone());
        let handle = driver::spawn(self.context.clone(), record, beginning);
        let mut index = self.context.index();
        index.by_name.insert(name, id.clone());
        index.by_id.insert(id, handle.clone());
        handle
    }

    /// Reserves a name (a random one if empty) for a container in the making.
    pub(crate) fn reserve_name(&self, wanted: &str, id: &str) -> Result<String> {
        let mut index = self.context.index();
        if wanted.is_empty() {
            for attempt in 0..100 {
                let name = names::random(attempt / 20);
                if !index.by_name.contains_key(&name) {
                    index.by_name.insert(name.clone(), id.to_owned());
                    return Ok(name);
                }
            }
            let name = id[..12].to_owned();
            index.by_name.insert(name.clone(), id.to_owned());
            return Ok(name);
        }
        if !names::valid(wanted) {
            return Err(Error::invalid(format!(
                "Invalid container name ({wanted}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        if let Some(owner) = index.by_name.get(wanted) {
            return Err(Error::name_in_use(wanted, owner));
        }
        index.by_name.insert(wanted.to_owned(), id.to_owned());
        Ok(wanted.to_owned())
    }

    pub(crate) fn release_name(&self, name: &str) {
        self.context.index().by_name.remove(name);
    }

    /// Creates a container; returns id and warnings.
    pub fn create(&self, request: CreateRequest, recording: Recording) -> Result<(String, Vec<String>)> {
        create::create(self, request, recording)
    }

    /// Starts it; returns once its command has been executed. Tells where the time went.
    pub async fn start(&self, name: &str) -> Result<Phases> {
        self.get(name)?.ask(|reply| Event::Start { reply }).await
    }

    pub async fn stop(&self, name: &str, timeout_s: Option<i64>, signal: Option<&str>) -> Result<()> {
        let handle = self.get(name)?;
        stop::stop(&handle, timeout_s, signal).await.map_err(|e| prefix_invalid(e, "cannot stop container: ", name))
    }

    pub async fn restart(&self, name: &str, timeout_s: Option<i64>, signal: Option<&str>) -> Result<()> {
        let handle = self.get(name)?;
        match stop::stop(&handle, timeout_s, signal).await {
            Ok(()) => {}
            Err(e) if e.kind == crate::error::Kind::NotModified => {}
            Err(e) => return Err(prefix_invalid(e, "Cannot restart container ", name)),
        }
        handle.ask(|reply| Event::Start { reply }).await?;
        let record = handle.record();
        self.context.events.emit("container", "restart", record.id(), record.event_attributes());
        Ok(())
    }

    /// Sends a signal (name or number; empty: SIGKILL).
    pub async fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let named = |mut e: Error| {
            if !e.message.starts_with("cannot kill container: ") {
                e.message = format!("cannot kill container: {name}: {}", e.message);
            }
            e
        };
        let signal = if signal.is_empty() { 9 } else { stop::parse_signal(signal).map_err(named)? };
        let handle = self.get(name).map_err(named)?;
        handle.ask(|reply| Event::Kill { signal, stopping: signal == 9 || signal == 15, reply }).await.map_err(named)
    }

    pub async fn pause(&self, name: &str) -> Result<()> {
        self.get(name)?.ask(|reply| Event::Pause { reply }).await
    }

    pub async fn unpause(&self, name: &str) -> Result<()> {
        self.get(name)?.ask(|reply| Event::Unpause { reply }).await
    }

    pub async fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        self.get(name)?.ask(|reply| Event::Resize { rows, columns, reply }).await
    }

    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let handle = self.get(name)?;
        let record = handle.record();
        let new = new.trim_start_matches('/');
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        if record.name == new {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        let reserved = self.reserve_name(new, record.id()).map_err(|e| match e.kind {
            crate::error::Kind::Conflict => Error::conflict(format!("Error when allocating new name: {}", e.message)),
            // The new name is shown with its slash.
            _ => Error::invalid(format!(
                "Error when allocating new name: {}",
                e.message.replacen(&format!("({new})"), &format!("(/{new})"), 1)
            )),
        })?;
        let renamed = handle.ask(|reply| Event::Rename { name: reserved.clone(), reply }).await;
        self.release_name(if renamed.is_ok() { &record.name } else { &reserved });
        renamed
    }

    pub async fn update(&self, name: &str, body: &UpdateBody) -> Result<()> {
        let handle = self.get(name)?;
        let fixed = Box::new(update::apply(&handle.record(), body)?);
        handle.ask(|reply| Event::Update { fixed, reply }).await
    }

    pub async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        self.get(name)?.ask(|reply| Event::Remove { force, volumes, reply }).await
    }

    /// `rm --link`: takes away a name that a container has by another's link, `other/alias`.
    pub async fn remove_link(&self, name: &str) -> Result<()> {
        self.get(name)?;
        let Some((parent, alias)) = name.trim_start_matches('/').split_once('/') else {
            return Err(Error::conflict("Conflict, cannot remove the default link name of the container"));
        };
        let alias = alias.to_owned();
        self.get(parent)?.ask(|reply| Event::Unlink { alias, reply }).await
    }

    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attachment> {
        attach::attach(&self.get(name)?, options).await
    }

    /// Waits; the future that comes back resolves to the record that met the condition. The lookup is done before it.
    pub fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Arc<Record>> + Send + 'static> {
        let mut watch = self.get(name)?.watch();
        let exits = watch.borrow().state.exits;
        Ok(async move {
            let met = watch
                .wait_for(|r| {
                    r.state.removed
                        || match condition {
                            WaitCondition::NotRunning => {
                                !r.state.status.alive() && r.state.status != crate::Status::Restarting
                            }
                            WaitCondition::NextExit => r.state.exits > exits,
                            WaitCondition::Removed => false,
                        }
                })
                .await
                .map(|r| r.clone());
            match met {
                Ok(record) => record,
                // The task ended: its last snapshot stays readable.
                Err(_) => watch.borrow().clone(),
            }
        })
    }

    pub fn inspect(&self, name: &str, size: bool) -> Result<Container> {
        let record = self.get(name)?.record();
        let directory = self.context.directory(record.id());
        let run_dir = self.context.run_directory(record.id());
        let mut answer = inspect::inspect(&record, &directory, &run_dir, self.context.execs.of_container(record.id()));
        let name_of = |id: &str| Some(self.context.find(id).ok()?.record().name.clone());
        answer.host_config.links = links::shown(answer.host_config.links.take(), &record.name, &name_of);
        if size {
            let own = changes::upper_size_bytes(&directory);
            answer.size_rw = Some(own);
            answer.size_root_fs =
                Some(own.saturating_add(i64::try_from(record.fixed.image_size_bytes).unwrap_or(i64::MAX)));
        }
        Ok(answer)
    }

    pub fn list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        let chosen = listing::choose(self, options)?;
        let mut linked = links::names(self.records().iter().map(Arc::as_ref));
        Ok(chosen
            .iter()
            .map(|record| {
                let mut summary = list::summary(record);
                if let Some(names) = linked.remove(record.id()) {
                    summary.names.extend(names);
                    summary.names.sort();
                }
                if options.size {
                    let own = changes::upper_size_bytes(&self.context.directory(record.id()));
                    summary.size_rw = Some(own);
                    let image = i64::try_from(record.fixed.image_size_bytes).unwrap_or(i64::MAX);
                    summary.size_root_fs = Some(own.saturating_add(image));
                }
                summary
            })
            .collect())
    }

    /// Processes by the host's `ps`. Blocking.
    pub fn top(&self, name: &str, arguments: &str) -> Result<Top> {
        let record = self.get(name)?.record();
        if !record.state.status.alive() {
            return Err(Error::not_running(record.id()));
        }
        let pids = hoist_runtime::cgroup::at(&self.context.cgroup_path(&record))
            .pids()
            .map_err(|e| Error::internal(format!("cannot list the processes of container {}: {e}", record.id())))?;
        let answer = top::top(arguments, &pids)?;
        self.context.events.emit("container", "top", record.id(), record.event_attributes());
        Ok(answer)
    }

    /// What changed in its filesystem. Blocking.
    pub fn changes(&self, name: &str) -> Result<Vec<Change>> {
        let record = self.get(name)?.record();
        changes::changes(&record, &self.context.directory(record.id()))
    }

    /// Removes all containers that do not run and pass the filters.
    pub async fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        let until = listing::until(filters)?;
        let mut report = PruneReport::default();
        for handle in self.handles() {
            let record = handle.record();
            let at_rest = !record.state.status.alive() && record.state.status != crate::Status::Restarting;
            let old_enough = until.is_none_or(|t| record.fixed.created_ns < t);
            if !at_rest || !old_enough || !filters.labels_match(&record.fixed.config.labels) {
                continue;
            }
            let freed = changes::upper_size_bytes(&self.context.directory(record.id()));
            if handle.ask(|reply| Event::Remove { force: false, volumes: false, reply }).await.is_ok() {
                report.containers_deleted.get_or_insert_default().push(record.id().to_owned());
                report.space_reclaimed += u64::try_from(freed).unwrap_or(0);
            }
        }
        let reclaimed = [("reclaimed".to_owned(), report.space_reclaimed.to_string())];
        self.context.events.emit("container", "prune", "", reclaimed.into());
        Ok(report)
    }
}

/// Says which container a wrong value was for.
fn prefix_invalid(mut error: Error, what: &str, name: &str) -> Error {
    if error.kind == crate::error::Kind::Invalid {
        error.message = format!("{what}{name}: {}", error.message);
    }
    error
}
