//! The engine's one SQLite database: opened once, shared by the subsystems, each of which owns its tables and migrations.
//!
//! Owns: the connection, its pragmas, the `schema_version` table. Knows nothing of what the tables mean.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use rusqlite::{self, Connection, OptionalExtension, Transaction, params};

/// What can go wrong with the database; every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("database {path}: {source}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
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
    connection: Mutex<Connection>,
}

impl Db {
    /// Opens (and creates) the database file: WAL, `synchronous=NORMAL` (a commit survives a crash of the process; one
    /// that must survive a power cut goes through [`Db::write_durable`]).
    pub fn open(path: &Path) -> Result<Db, Error> {
        let fail = |source| Error::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(fail)?;
        Db::prepare(connection, path)
    }

    /// A database that lives in memory only, for tests.
    pub fn in_memory() -> Result<Db, Error> {
        let path = Path::new(":memory:");
        let connection =
            Connection::open_in_memory().map_err(|source| Error::Sqlite { path: path.to_owned(), source })?;
        Db::prepare(connection, path)
    }

    fn prepare(connection: Connection, path: &Path) -> Result<Db, Error> {
        let fail = |source| Error::Sqlite { path: path.to_owned(), source };
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-512;
                 CREATE TABLE IF NOT EXISTS schema_version (subsystem TEXT PRIMARY KEY, version INTEGER NOT NULL);",
            )
            .map_err(fail)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Db { shared: Arc::new(Shared { path: path.to_owned(), connection: Mutex::new(connection) }) })
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
        query(&self.lock()).map_err(|source| self.fail(source))
    }

    /// Runs one transaction: all of it happens or none.
    pub fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.transaction(&mut self.lock(), change)
    }

    /// Like [`Db::write`], and on disk (synced) before it returns.
    pub fn write_durable<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut connection = self.lock();
        connection.pragma_update(None, "synchronous", "FULL").map_err(|source| self.fail(source))?;
        let result = self.transaction(&mut connection, change);
        let relaxed = connection.pragma_update(None, "synchronous", "NORMAL").map_err(|source| self.fail(source));
        result.and_then(|value| relaxed.map(|()| value))
    }

    fn transaction<T>(
        &self,
        connection: &mut Connection,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let run = || {
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|source| self.fail(source))
    }

    fn fail(&self, source: rusqlite::Error) -> Error {
        Error::Sqlite { path: self.shared.path.clone(), source }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a closure rolled its transaction back when it unwound: the connection is sound.
        self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
