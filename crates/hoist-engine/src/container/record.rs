//! The record of a container: what is fixed at create, what changes, and how it is kept in the database.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_api::container::{Config, MountPoint};
use hoist_api::host_config::{HostConfig, RestartPolicy};
use hoist_api::network::EndpointSettings;
use hoist_db::{Db, Transaction, params, rusqlite};
use hoist_image::LeaseChange;
use serde::{Deserialize, Serialize};

use crate::error::{Result, Translate};

/// Docker's container states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// A process exists.
    pub fn alive(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }
}

/// A mount decided at create: what inspect shows and what the runtime mounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountRecord {
    pub point: MountPoint,
    /// Host path or, for tmpfs, empty.
    pub source: PathBuf,
    /// What of a volume is mounted, looked up at each start: a path that stays inside `source`. Empty: all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// OCI mount options.
    pub options: Vec<String>,
    /// `bind` or `tmpfs`.
    pub kind: String,
}

/// What does not change after create (but for rename and update, which replace the whole).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fixed {
    pub id: String,
    pub created_ns: i64,
    /// Image id; empty for a container without image.
    pub image_id: String,
    /// Merged with the image's config.
    pub config: Config,
    pub host_config: HostConfig,
    /// Endpoints asked for, by network name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    pub path: String,
    pub args: Vec<String>,
    pub mounts: Vec<MountRecord>,
    /// Read-only layers, topmost first.
    pub layers: Vec<PathBuf>,
    /// `linux/amd64`
    pub platform: String,
    /// Size of the image in bytes, for `SizeRootFs`.
    pub image_size_bytes: u64,
}

/// What changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub status: Status,
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    pub oom_killed: bool,
    /// Nanoseconds since the epoch; 0 never.
    pub started_ns: i64,
    pub finished_ns: i64,
    pub restart_count: i64,
    /// `docker stop` or `kill` ended it: the restart policy rests.
    pub manually_stopped: bool,
    pub endpoint: Option<hoist_network::Endpoint>,
    /// The network it was in last, which inspect shows after its end, too.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_id: String,
    /// Ends so far; waiters for the next exit compare it.
    #[serde(default)]
    pub exits: u64,
    /// Set once the container is gone from the engine.
    #[serde(skip)]
    pub removed: bool,
}

impl Default for State {
    fn default() -> State {
        State {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_ns: 0,
            finished_ns: 0,
            restart_count: 0,
            manually_stopped: false,
            endpoint: None,
            network_id: String::new(),
            exits: 0,
            removed: false,
        }
    }
}

/// A snapshot of a container.
#[derive(Clone, Debug)]
pub struct Record {
    /// Without the slash.
    pub name: String,
    pub fixed: Arc<Fixed>,
    pub state: State,
}

impl Record {
    pub fn id(&self) -> &str {
        &self.fixed.id
    }

    pub fn restart_policy(&self) -> &RestartPolicy {
        &self.fixed.host_config.restart_policy
    }

    /// It must survive a power cut: one that is removed when it ends would not be missed.
    pub(crate) fn durable(&self) -> bool {
        !self.fixed.host_config.auto_remove
    }

    /// Attributes of its events: labels, image, name.
    pub fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.fixed.config.labels.clone();
        attributes.insert("image".to_owned(), self.fixed.config.image.clone());
        attributes.insert("name".to_owned(), self.name.clone());
        attributes
    }
}

const MIGRATIONS: [&str; 1] = ["CREATE TABLE container (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, fixed TEXT NOT NULL, state TEXT NOT NULL) WITHOUT ROWID"];

/// The containers' table.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    db: Db,
}

/// A row that could not be read, kept as it is.
pub(crate) struct Unreadable {
    pub id: String,
    pub name: String,
    pub reason: String,
}

impl Records {
    pub(crate) fn open(db: Db) -> Result<Records> {
        db.migrate("container", &MIGRATIONS).api()?;
        Ok(Records { db })
    }

    /// Writes a new record and the lease on its image; `durable`: they survive a power cut once this returns.
    pub(crate) fn insert(&self, record: &Record, lease: LeaseChange, durable: bool) -> Result<()> {
        let change = insertion(record, lease)?;
        if durable { self.db.write_durable(change).api() } else { self.db.write(change).api() }
    }

    /// The same, while others go on.
    pub(crate) fn insert_later(
        &self,
        record: &Record,
        lease: LeaseChange,
        durable: bool,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<()> {
        self.db.write_later(durable, insertion(record, lease)?, |result| done(result.api()));
        Ok(())
    }

    pub(crate) fn save_state(&self, record: &Record) -> Result<()> {
        self.db.write(state_update(record)?).api()
    }

    /// The same, while others go on.
    pub(crate) fn save_state_later(
        &self,
        record: &Record,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<()> {
        self.db.write_later(false, state_update(record)?, |result| done(result.api()));
        Ok(())
    }

    /// Writes name and fixed part too (rename, update).
    pub(crate) fn save_all(&self, record: &Record) -> Result<()> {
        let (fixed, state) = (json(&*record.fixed)?, json(&record.state)?);
        let change = |tx: &hoist_db::Transaction<'_>| {
            tx.execute(
                "UPDATE container SET name = ?2, fixed = ?3, state = ?4 WHERE id = ?1",
                params![record.id(), record.name, fixed, state],
            )
            .map(drop)
        };
        self.db.write_durable(change).api()
    }

    /// Takes a record out; `durable`: it does not come back after a power cut once this returns.
    pub(crate) fn delete(&self, id: &str, durable: bool) -> Result<()> {
        if durable { self.db.write_durable(deletion(id)).api() } else { self.db.write(deletion(id)).api() }
    }

    /// The same, while others go on.
    pub(crate) fn delete_later(&self, id: &str, done: impl FnOnce(Result<()>) + Send + 'static) {
        self.db.write_later(false, deletion(id), |result| done(result.api()));
    }

    /// All records; those that cannot be read come back by name and stay in the table.
    pub(crate) fn load(&self) -> Result<(Vec<Record>, Vec<Unreadable>)> {
        let rows: Vec<(String, String, String, String)> = self
            .db
            .read(|c| {
                c.prepare("SELECT id, name, fixed, state FROM container")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                    .collect()
            })
            .api()?;
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for (id, name, fixed, state) in rows {
            match (serde_json::from_str(&fixed), serde_json::from_str(&state)) {
                (Ok(fixed), Ok(state)) => records.push(Record { name, fixed: Arc::new(fixed), state }),
                (Err(e), _) | (_, Err(e)) => unreadable.push(Unreadable { id, name, reason: e.to_string() }),
            }
        }
        Ok((records, unreadable))
    }
}

type Change = Box<dyn FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send>;

fn insertion(record: &Record, lease: LeaseChange) -> Result<Change> {
    let (id, name) = (record.id().to_owned(), record.name.clone());
    let (fixed, state) = (json(&*record.fixed)?, json(&record.state)?);
    Ok(Box::new(move |tx| {
        lease.apply(tx)?;
        tx.prepare_cached("INSERT INTO container VALUES (?1, ?2, ?3, ?4)")?.execute(params![id, name, fixed, state])?;
        Ok(())
    }))
}

fn state_update(record: &Record) -> Result<Change> {
    let (id, state) = (record.id().to_owned(), json(&record.state)?);
    Ok(Box::new(move |tx| {
        tx.prepare_cached("UPDATE container SET state = ?2 WHERE id = ?1")?.execute(params![id, state])?;
        Ok(())
    }))
}

fn deletion(id: &str) -> Change {
    let id = id.to_owned();
    Box::new(move |tx| tx.prepare_cached("DELETE FROM container WHERE id = ?1")?.execute([id]).map(drop))
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| crate::Error::internal(format!("cannot write a container record: {e}")))
}
