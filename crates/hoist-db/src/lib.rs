//! The engine's one SQLite database: opened once, shared by the subsystems, each of which owns its tables and migrations.
//!
//! Owns: the connection, its pragmas, the `schema_version` table, the queue of changes that nobody waits for, room on disk for
//! changes that come when it is full. Knows nothing of what the tables mean.

#![forbid(unsafe_code)]

mod queue;
mod reserve;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use rusqlite::{self, Connection, OptionalExtension, Transaction, params};

use queue::Queue;
use reserve::Reserve;

/// What can go wrong with the database; every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("database {path}: {source}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("database {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "database {path}: table set {subsystem} has version {found}, this hoist knows up to {known}: use a newer hoist"
    )]
    Newer { path: PathBuf, subsystem: String, found: usize, known: usize },
}

/// A handle on the database; clones share one connection.
#[derive(Clone, Debug)]
pub struct Db {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    connection: Mutex<Open>,
    queue: Arc<Queue>,
}

/// Closed in this order, also where opening fails.
#[derive(Debug)]
struct Open {
    connection: Connection,
    /// None for one in memory.
    reserve: Option<Reserve>,
}

impl Open {
    fn after_change(&self) {
        if let Some(reserve) = &self.reserve {
            reserve.after_change();
        }
    }
}

impl Db {
    /// Opens (and creates) the database file: WAL, `synchronous=NORMAL` (a commit survives a crash of the process; one
    /// that must survive a power cut goes through [`Db::write_durable`]).
    ///
    /// Nobody else may have it open: it is locked for good. Room on disk is taken for changes that come when the disk is full.
    pub fn open(path: &Path) -> Result<Db, Error> {
        let fail = |source| Error::Sqlite { path: path.to_owned(), source };
        let reserve = Reserve::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let connection = Connection::open(path).map_err(fail)?;
        Db::prepare(Open { connection, reserve: Some(reserve) }, path)
    }

    /// A database that lives in memory only, for tests.
    pub fn in_memory() -> Result<Db, Error> {
        let path = Path::new(":memory:");
        let connection =
            Connection::open_in_memory().map_err(|source| Error::Sqlite { path: path.to_owned(), source })?;
        Db::prepare(Open { connection, reserve: None }, path)
    }

    fn prepare(open: Open, path: &Path) -> Result<Db, Error> {
        let fail = |source| Error::Sqlite { path: path.to_owned(), source };
        open.connection
            .execute_batch(
                // Locked before the log is first used, no file is shared about it, which would need room too.
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
                 PRAGMA foreign_keys=ON; PRAGMA cache_size=-512; PRAGMA temp_store=MEMORY;
                 CREATE TABLE IF NOT EXISTS schema_version (subsystem TEXT PRIMARY KEY, version INTEGER NOT NULL);",
            )
            .map_err(fail)?;
        open.connection.pragma_update(None, "wal_autocheckpoint", reserve::CHECKPOINT_PAGES).map_err(fail)?;
        if let Some(reserve) = &open.reserve {
            reserve.reserve_log();
        }
        open.connection.set_prepared_statement_cache_capacity(64);
        Ok(Db {
            shared: Arc::new(Shared { path: path.to_owned(), connection: Mutex::new(open), queue: Arc::default() }),
        })
    }

    /// Brings `subsystem`'s tables up to date: runs the steps (SQL batches) it has not seen yet, each in a transaction.
    /// Steps are only ever appended.
    pub fn migrate(&self, subsystem: &str, steps: &[&str]) -> Result<(), Error> {
        let found: usize = self.read(|c| {
            c.query_row("SELECT version FROM schema_version WHERE subsystem = ?1", [subsystem], |row| {
                row.get::<_, i64>(0)
            })
            .optional()
            .map(|v| v.and_then(|v| usize::try_from(v).ok()).unwrap_or(0))
        })?;
        if found > steps.len() {
            return Err(Error::Newer {
                path: self.shared.path.clone(),
                subsystem: subsystem.to_owned(),
                found,
                known: steps.len(),
            });
        }
        for (index, step) in steps.iter().enumerate().skip(found) {
            self.write_durable(|tx| {
                tx.execute_batch(step)?;
                tx.execute(
                    "INSERT INTO schema_version VALUES (?1, ?2)
                     ON CONFLICT(subsystem) DO UPDATE SET version = excluded.version",
                    params![subsystem, i64::try_from(index + 1).unwrap_or(i64::MAX)],
                )?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Runs a query.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        query(&self.lock().connection).map_err(|source| self.fail(source))
    }

    /// Runs one transaction: all of it happens or none.
    pub fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut open = self.lock();
        let result = transaction(&mut open.connection, change).map_err(|source| self.fail(source));
        open.after_change();
        result
    }

    /// Like [`Db::write`], and on disk (synced) before it returns.
    pub fn write_durable<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut open = self.lock();
        let result = durable_transaction(&mut open.connection, change).map_err(|source| self.fail(source));
        open.after_change();
        result
    }

    /// Hands one transaction to a thread that works off such changes in their order; `done` learns there how it ended, and
    /// must not use the database. Whoever reads or writes afterwards finds the change made. `durable`: on disk (synced)
    /// before `done` is called. A crash of the process may lose what was not done yet.
    pub fn write_later(
        &self,
        durable: bool,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        let path = self.shared.path.clone();
        let job = move |open: &mut Open| {
            let connection = &mut open.connection;
            let result =
                if durable { durable_transaction(connection, change) } else { transaction(connection, change) };
            open.after_change();
            done(result.map_err(|source| Error::Sqlite { path, source }));
        };
        let shared = Arc::downgrade(&self.shared);
        let has_worker = self.shared.queue.push(Box::new(job), move || {
            // Taking the connection works the queue off.
            shared.upgrade().map(|shared| drop(shared.lock())).is_some()
        });
        if !has_worker {
            drop(self.lock());
        }
    }

    fn fail(&self, source: rusqlite::Error) -> Error {
        Error::Sqlite { path: self.shared.path.clone(), source }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.shared.lock()
    }
}

impl Shared {
    /// The connection, with nothing left in the queue that was put there before.
    fn lock(&self) -> MutexGuard<'_, Open> {
        // A panic inside a closure rolled its transaction back when it unwound: the connection is sound.
        let mut open = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.queue.work_off(&mut open);
        open
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
        let open = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.queue.work_off(open);
        if let Some(reserve) = &open.reserve {
            reserve.keep_log();
        }
    }
}

fn transaction<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn durable_transaction<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let result = transaction(connection, change);
    let relaxed = connection.pragma_update(None, "synchronous", "NORMAL");
    result.and_then(|value| relaxed.map(|()| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_run_once_and_a_newer_schema_is_refused() {
        let db = Db::in_memory().unwrap();
        let steps = ["CREATE TABLE t (x INTEGER)", "ALTER TABLE t ADD COLUMN y INTEGER"];
        db.migrate("t", &steps[..1]).unwrap();
        db.migrate("t", &steps).unwrap();
        db.migrate("t", &steps).unwrap();
        db.write(|tx| tx.execute("INSERT INTO t VALUES (1, 2)", [])).unwrap();
        assert!(matches!(db.migrate("t", &steps[..1]), Err(Error::Newer { found: 2, known: 1, .. })));
    }

    #[test]
    fn changes_for_later_are_seen_by_whoever_reads_next_and_done_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&directory.path().join("db")).unwrap();
        db.migrate("t", &["CREATE TABLE t (x INTEGER PRIMARY KEY)"]).unwrap();
        let (told, results) = std::sync::mpsc::channel();
        for number in [1, 2, 1, 3] {
            let told = told.clone();
            let insert = move |tx: &Transaction<'_>| tx.execute("INSERT INTO t VALUES (?1)", [number]).map(drop);
            db.write_later(number == 2, insert, move |result| told.send(result.is_ok()).unwrap());
        }
        assert_eq!(db.read(|c| c.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0))).unwrap(), 3);
        assert_eq!(results.iter().take(4).collect::<Vec<_>>(), [true, true, false, true]);
        // The worker does it without anybody asking, and what is left at the end is done then.
        let waiting = told.clone();
        db.write_later(
            false,
            |tx| tx.execute("DELETE FROM t", []).map(drop),
            move |r| waiting.send(r.is_ok()).unwrap(),
        );
        assert!(results.recv().unwrap());
        db.write_later(false, |tx| tx.execute("INSERT INTO t VALUES (9)", []).map(drop), |_| {});
        drop(db);
        let db = Db::open(&directory.path().join("db")).unwrap();
        assert_eq!(db.read(|c| c.query_row("SELECT x FROM t", [], |r| r.get::<_, i64>(0))).unwrap(), 9);
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let db = Db::in_memory().unwrap();
        db.migrate("t", &["CREATE TABLE t (x INTEGER)"]).unwrap();
        let failed = db.write_durable(|tx| {
            tx.execute("INSERT INTO t VALUES (1)", [])?;
            tx.execute("INSERT INTO nowhere VALUES (1)", [])
        });
        assert!(failed.is_err());
        assert_eq!(db.read(|c| c.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0))).unwrap(), 0);
    }
}
