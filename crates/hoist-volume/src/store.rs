//! The tables `volume` and `volume_hold`. Knows nothing of directories beyond where a volume's data lies.

use std::path::Path;

use hoist_db::rusqlite::{Result as SqlResult, Row};
use hoist_db::{Db, OptionalExtension, params};

use crate::{Error, Volume, directory};

const STEPS: &[&str] = &["
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
"];

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

pub(crate) fn insert(db: &Db, volume: &Volume) -> Result<(), Error> {
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
        ])
    })?;
    Ok(())
}

pub(crate) fn delete(db: &Db, name: &str) -> Result<(), Error> {
    db.write_durable(|tx| tx.execute("DELETE FROM volume WHERE name = ?1", [name]))?;
    Ok(())
}

pub(crate) fn holders(db: &Db, name: &str) -> Result<Vec<String>, Error> {
    Ok(db.read(|c| {
        c.prepare_cached("SELECT container FROM volume_hold WHERE volume = ?1 ORDER BY container")?
            .query_map([name], |row| row.get(0))?
            .collect()
    })?)
}

pub(crate) fn hold(db: &Db, name: &str, container_id: &str) -> Result<(), Error> {
    if holders(db, name)?.iter().any(|holder| holder == container_id) {
        return Ok(());
    }
    db.write_durable(|tx| tx.execute("INSERT OR IGNORE INTO volume_hold VALUES (?1, ?2)", [name, container_id]))?;
    Ok(())
}

pub(crate) fn drop_holds(db: &Db, container_id: &str) -> Result<Vec<String>, Error> {
    let any = db.read(|c| {
        c.prepare_cached("SELECT EXISTS (SELECT 1 FROM volume_hold WHERE container = ?1)")?
            .query_row([container_id], |row| row.get::<_, bool>(0))
    })?;
    if !any {
        return Ok(Vec::new());
    }
    Ok(db.write(|tx| {
        let held: Vec<String> = tx
            .prepare_cached(
                "SELECT name FROM volume JOIN volume_hold ON volume = name
                 WHERE container = ?1 AND anonymous
                   AND NOT EXISTS (SELECT 1 FROM volume_hold o WHERE o.volume = name AND o.container <> ?1)
                 ORDER BY name",
            )?
            .query_map([container_id], |row| row.get(0))?
            .collect::<SqlResult<_>>()?;
        tx.execute("DELETE FROM volume_hold WHERE container = ?1", [container_id])?;
        Ok(held)
    })?)
}
