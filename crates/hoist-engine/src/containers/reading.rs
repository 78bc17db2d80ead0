//! What can be learned about containers without changing them.

use std::sync::Arc;

use hoist_api::container::{Change, Summary, Top};
use hoist_api::filters::Filters;
use hoist_api::inspect::Container;

use super::Containers;
use crate::container::record::Record;
use crate::container::{changes, inspect, list, top};
use crate::error::{Error, Result};
use crate::links;
use crate::listing;

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
        let mut image_names = list::ImageNames::default();
        let id_of = |name: &str| self.context.images.get(name).ok().map(|image| image.id.clone());
        let mut linked = links::names(self.records().iter().map(Arc::as_ref));
        Ok(chosen
            .iter()
            .map(|record| {
                let mut summary = list::summary(record, image_names.of(record, id_of));
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
}
