//! The tables `volume` and `volume_hold`. Knows nothing of directories beyond where a volume's data lies.

use std::path::Path;

use hoist_db::rusqlite::{Result as SqlResult, Row};
use hoist_db::{Db, OptionalExtension, params};

use crate::{Error, Volume, directory};

pub(crate) const STEPS: &[&str] = &[
    "
    CREATE TABLE volume (
        name TEXT PRIMARY KEY,
        driver TEXT NOT NULL,
        created_ns INTEGER NOT NULL,
        labels TEXT NOT NULL,
        options TEXT NOT NULL,
        anonymous INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE volume_hold (
        volume TEXT NOT NULL REFERENCES volume(name),
        container TEXT NOT NULL,
        PRIMARY KEY (volume, container)
    ) WITHOUT ROWID;
    CREATE INDEX volume_hold_container ON volume_hold(container);
",
    // Holds from before there were fates: nothing that somebody may want goes.
    "ALTER TABLE volume_hold ADD COLUMN fate INTEGER NOT NULL DEFAULT 1;",
];

/// What becomes of an anonymous volume when the container that holds it is removed. The column `fate` of `volume_hold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It goes.
    Goes = 0,
    /// It stays, because the container is removed without its volumes.
    Stays = 1,
    /// It stays, because the container was given it by name.
    Named = 2,
}

const COLUMNS: &str = "name, driver, created_ns, labels, options, anonymous";

pub(crate) fn migrate(db: &Db) -> Result<(), Error> {
    Ok(db.migrate("volume", STEPS)?)
}

pub(crate) fn get(db: &Db, root: &Path, name: &str) -> Result<Option<Volume>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM volume WHERE name = ?1");
    Ok(db.read(|c| c.prepare_cached(&sql)?.query_row([name], |row| volume(row, root)).optional())?)
}

pub(crate) fn list(db: &Db, root: &Path) -> Result<Vec<Volume>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM volume ORDER BY name");
    Ok(db.read(|c| c.prepare_cached(&sql)?.query_map([], |row| volume(row, root))?.collect())?)
}

/// Labels or options that do not parse are shown as none; the row stays as it is.
fn volume(row: &Row<'_>, root: &Path) -> SqlResult<Volume> {
    let name: String = row.get(0)?;
    Ok(Volume {
        mountpoint: directory::data(root, &name),
        name,
        driver: row.get(1)?,
        created_ns: row.get(2)?,
        labels: serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default(),
        options: serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default(),
        anonymous: row.get(5)?,
    })
}

/// `holder` holds it from the same moment.
pub(crate) fn insert(db: &Db, volume: &Volume, holder: Option<&str>) -> Result<(), Error> {
    let json = |map| serde_json::to_string(map).map_err(|e| Error::Other(format!("create {}: {e}", volume.name)));
    let (labels, options) = (json(&volume.labels)?, json(&volume.options)?);
    db.write_durable(|tx| {
        tx.prepare_cached("INSERT INTO volume VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
            volume.name,
            volume.driver,
            volume.created_ns,
            labels,
            options,
            volume.anonymous
        ])?;
        if let Some(holder) = holder {
            tx.prepare_cached(HOLD)?.execute(params![volume.name, holder, Fate::Goes as i64])?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Takes a volume out, and the holds on it.
pub(crate) fn delete(db: &Db, name: &str) -> Result<(), Error> {
    db.write_durable(|tx| {
        tx.prepare_cached("DELETE FROM volume_hold WHERE volume = ?1")?.execute([name])?;
        tx.prepare_cached("DELETE FROM volume WHERE name = ?1")?.execute([name])
    })?;
    Ok(())
}

pub(crate) fn holders(db: &Db, name: &str) -> Result<Vec<String>, Error> {
    Ok(db.read(|c| {
        c.prepare_cached("SELECT container FROM volume_hold WHERE volume = ?1 ORDER BY container")?
            .query_map([name], |row| row.get(0))?
            .collect()
    })?)
}

/// Everybody who holds anything.
pub(crate) fn all_holders(db: &Db) -> Result<Vec<String>, Error> {
    Ok(db.read(|c| {
        c.prepare("SELECT DISTINCT container FROM volume_hold")?.query_map([], |row| row.get(0))?.collect()
    })?)
}

pub(crate) fn is_held_by_name(db: &Db, name: &str) -> Result<bool, Error> {
    Ok(db.read(|c| {
        c.prepare_cached("SELECT EXISTS (SELECT 1 FROM volume_hold WHERE volume = ?1 AND fate = ?2)")?
            .query_row(params![name, Fate::Named as i64], |row| row.get(0))
    })?)
}

const HOLD: &str = "INSERT INTO volume_hold VALUES (?1, ?2, ?3)
    ON CONFLICT(volume, container) DO UPDATE SET fate = max(fate, excluded.fate)";

pub(crate) fn hold(db: &Db, name: &str, container_id: &str, fate: Fate) -> Result<(), Error> {
    let fate = fate as i64;
    let is_held = db.read(|c| {
        let sql = "SELECT EXISTS (SELECT 1 FROM volume_hold WHERE volume = ?1 AND container = ?2 AND fate >= ?3)";
        c.prepare_cached(sql)?.query_row(params![name, container_id, fate], |row| row.get::<_, bool>(0))
    })?;
    if !is_held {
        db.write_durable(|tx| tx.prepare_cached(HOLD)?.execute(params![name, container_id, fate]))?;
    }
    Ok(())
}

/// For all that a container holds and was not given by name.
pub(crate) fn set_fate(db: &Db, container_id: &str, fate: Fate) -> Result<(), Error> {
    let values = params![container_id, fate as i64, Fate::Named as i64];
    let differs = db.read(|c| {
        let sql = "SELECT EXISTS (SELECT 1 FROM volume_hold WHERE container = ?1 AND fate NOT IN (?2, ?3))";
        c.prepare_cached(sql)?.query_row(values, |row| row.get::<_, bool>(0))
    })?;
    if differs {
        db.write(|tx| tx.execute("UPDATE volume_hold SET fate = ?2 WHERE container = ?1 AND fate <> ?3", values))?;
    }
    Ok(())
}

/// Drops the holds of a container, but those on the anonymous volumes that nobody else holds and whose fate is `latest` at most:
/// they are to go, and are returned.
pub(crate) fn drop_holds(db: &Db, container_id: &str, latest: Option<Fate>) -> Result<Vec<String>, Error> {
    let any = db.read(|c| {
        c.prepare_cached("SELECT EXISTS (SELECT 1 FROM volume_hold WHERE container = ?1)")?
            .query_row([container_id], |row| row.get::<_, bool>(0))
    })?;
    if !any {
        return Ok(Vec::new());
    }
    Ok(db.write(|tx| {
        let held: Vec<(String, bool)> = tx
            .prepare_cached(
                "SELECT name, anonymous AND fate <= ?2
                   AND NOT EXISTS (SELECT 1 FROM volume_hold o WHERE o.volume = name AND o.container <> ?1)
                 FROM volume JOIN volume_hold ON volume = name WHERE container = ?1 ORDER BY name",
            )?
            .query_map(params![container_id, latest.map_or(-1, |fate| fate as i64)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<SqlResult<_>>()?;
        let (going, staying): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, goes)| *goes);
        let mut drop_hold = tx.prepare_cached("DELETE FROM volume_hold WHERE container = ?1 AND volume = ?2")?;
        for (name, _) in staying {
            drop_hold.execute([container_id, &name])?;
        }
        Ok(going.into_iter().map(|(name, _)| name).collect())
    })?)
}
