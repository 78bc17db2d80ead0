//! All containers of an engine: lookup by id, name and prefix, and one handle for each.

use std::sync::Arc;

use hoist_api::container::PruneReport;
use hoist_api::filters::Filters;
use hoist_api::host_config::UpdateBody;

use crate::container::attach::{self, AttachOptions, Attachment};
use crate::container::driver::{self, Beginning};
use crate::container::handle::{Event, Handle, Phases};
use crate::container::record::Record;
use crate::container::{changes, stop, update};
use crate::context::Context;
use crate::create::{self, CreateRequest, Recording};
use crate::error::{Error, Result, Translate};
use crate::listing;
use crate::names;

mod reading;

pub use reading::{ListOptions, WaitCondition};

/// The handle on all containers. Clones share it.
#[derive(Clone, Debug)]
pub struct Containers {
    context: Arc<Context>,
}

impl Containers {
    pub(crate) fn new(context: Arc<Context>) -> Containers {
        Containers { context }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// [`Context::find`]
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
            return Err(invalid_name(wanted));
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
        stop::kill(&handle, signal).await.map_err(named)
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
        let new = new.trim_start_matches('/');
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let handle = self.get(name)?;
        let record = handle.record();
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

    /// Returns warnings.
    pub async fn update(&self, name: &str, body: &UpdateBody) -> Result<Vec<String>> {
        update::check(body)?;
        let handle = self.get(name)?;
        let (fixed, warnings) = update::apply(&handle.record(), body, hoist_runtime::cgroup::version())?;
        handle.ask(|reply| Event::Update { fixed: Box::new(fixed), reply }).await?;
        Ok(warnings)
    }

    pub async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        self.remove_one(&self.get(name)?, force, volumes).await
    }

    async fn remove_one(&self, handle: &Handle, force: bool, volumes: bool) -> Result<()> {
        // An engine after this one shall know it, too, if it has to end what this one began.
        self.context.volumes.note_removal(handle.record().id(), volumes).api()?;
        handle.ask(|reply| Event::Remove { force, volumes, reply }).await
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
            if self.remove_one(&handle, false, false).await.is_ok() {
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
pub(crate) fn invalid_name(name: &str) -> Error {
    Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
}
