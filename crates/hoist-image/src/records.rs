//! The store's tables: what is written when an image, a name or a lease comes and goes. SQL lives here only.

use std::collections::HashMap;

use hoist_db::{Db, OptionalExtension, Transaction, params, rusqlite};

use crate::Error;

/// Appended to, never changed: each step ran on somebody's disk.
const STEPS: &[&str] = &["
    CREATE TABLE images (id TEXT PRIMARY KEY, parent TEXT, tagged_ns INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE layers (diff_id TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        diff_id TEXT NOT NULL REFERENCES layers (diff_id),
        PRIMARY KEY (image_id, position)) WITHOUT ROWID;
    CREATE INDEX image_layers_by_layer ON image_layers (diff_id);
    CREATE TABLE image_names (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE) WITHOUT ROWID;
    CREATE INDEX image_names_by_image ON image_names (image_id);
    CREATE TABLE image_blobs (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        PRIMARY KEY (image_id, digest)) WITHOUT ROWID;
    CREATE INDEX image_blobs_by_digest ON image_blobs (digest);
    CREATE TABLE image_leases (holder TEXT PRIMARY KEY, diff_ids TEXT NOT NULL) WITHOUT ROWID;
"];

/// One row of `images` with its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRecord {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) tagged_ns: i64,
    pub(crate) diff_ids: Vec<String>,
}

/// All the tables say.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) images: Vec<ImageRecord>,
    pub(crate) layers: HashMap<String, u64>,
    /// Canonical reference to image id.
    pub(crate) names: Vec<(String, String)>,
    /// Image id, digest, media type.
    pub(crate) blobs: Vec<(String, String, String)>,
    pub(crate) leases: HashMap<String, Vec<String>>,
}

pub(crate) fn migrate(db: &Db) -> Result<(), Error> {
    Ok(db.migrate("image", STEPS)?)
}

pub(crate) fn read(db: &Db) -> Result<Snapshot, Error> {
    Ok(db.read(|c| {
        let mut snapshot = Snapshot::default();
        let mut layers: HashMap<String, Vec<String>> = HashMap::new();
        let mut query = c.prepare("SELECT image_id, diff_id FROM image_layers ORDER BY image_id, position")?;
        for row in query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (image, diff_id): (String, String) = row?;
            layers.entry(image).or_default().push(diff_id);
        }
        let mut query = c.prepare("SELECT id, parent, tagged_ns FROM images")?;
        for row in query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
            let (id, parent, tagged_ns): (String, Option<String>, i64) = row?;
            let diff_ids = layers.remove(&id).unwrap_or_default();
            snapshot.images.push(ImageRecord { id, parent, tagged_ns, diff_ids });
        }
        let mut query = c.prepare("SELECT diff_id, size_bytes FROM layers")?;
        for row in query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))? {
            let (diff_id, size) = row?;
            snapshot.layers.insert(diff_id, u64::try_from(size).unwrap_or(0));
        }
        let mut query = c.prepare("SELECT reference, image_id FROM image_names")?;
        snapshot.names = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        let mut query = c.prepare("SELECT image_id, digest, media_type FROM image_blobs")?;
        snapshot.blobs =
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<_>>()?;
        let mut query = c.prepare("SELECT holder, diff_ids FROM image_leases")?;
        for row in query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))? {
            let (holder, diff_ids) = row?;
            snapshot.leases.insert(holder, diff_ids.split_whitespace().map(str::to_owned).collect());
        }
        Ok(snapshot)
    })?)
}

pub(crate) fn put_layer(tx: &Transaction<'_>, diff_id: &str, size_bytes: u64) -> rusqlite::Result<()> {
    let size = i64::try_from(size_bytes).unwrap_or(i64::MAX);
    tx.execute("INSERT OR IGNORE INTO layers VALUES (?1, ?2)", params![diff_id, size]).map(drop)
}

pub(crate) fn drop_layer(tx: &Transaction<'_>, diff_id: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM layers WHERE diff_id = ?1", [diff_id]).map(drop)
}

/// Adds an image or, if it is there, its newer tag time.
pub(crate) fn put_image(tx: &Transaction<'_>, image: &ImageRecord) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO images VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET
            tagged_ns = max(tagged_ns, excluded.tagged_ns), parent = coalesce(excluded.parent, parent)",
        params![image.id, image.parent, image.tagged_ns],
    )?;
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO image_layers VALUES (?1, ?2, ?3)")?;
    for (position, diff_id) in (0_i64..).zip(&image.diff_ids) {
        insert.execute(params![image.id, position, diff_id])?;
    }
    Ok(())
}

pub(crate) fn drop_image(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM images WHERE id = ?1", [id]).map(drop)
}

/// Blobs that only this image has.
pub(crate) fn lonely_blobs(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<Vec<String>> {
    let mut query = tx.prepare(
        "SELECT digest FROM image_blobs WHERE image_id = ?1
         AND digest NOT IN (SELECT digest FROM image_blobs WHERE image_id <> ?1)",
    )?;
    query.query_map([id], |row| row.get(0))?.collect()
}

/// What a blob was called when it came, if it is here.
pub(crate) fn media_type(db: &Db, digest: &str) -> Result<Option<String>, Error> {
    Ok(db.read(|c| {
        c.query_row("SELECT media_type FROM image_blobs WHERE digest = ?1 LIMIT 1", [digest], |row| row.get(0))
            .optional()
    })?)
}

pub(crate) fn set_tagged(tx: &Transaction<'_>, id: &str, tagged_ns: i64) -> rusqlite::Result<()> {
    tx.execute("UPDATE images SET tagged_ns = ?2 WHERE id = ?1", params![id, tagged_ns]).map(drop)
}

pub(crate) fn put_name(tx: &Transaction<'_>, reference: &str, image_id: &str) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO image_names VALUES (?1, ?2) ON CONFLICT (reference) DO UPDATE SET image_id = excluded.image_id",
        [reference, image_id],
    )
    .map(drop)
}

pub(crate) fn drop_name(tx: &Transaction<'_>, reference: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM image_names WHERE reference = ?1", [reference]).map(drop)
}

pub(crate) fn put_blob(tx: &Transaction<'_>, image_id: &str, digest: &str, media_type: &str) -> rusqlite::Result<()> {
    tx.execute("INSERT OR IGNORE INTO image_blobs VALUES (?1, ?2, ?3)", [image_id, digest, media_type]).map(drop)
}

pub(crate) fn put_lease(tx: &Transaction<'_>, holder: &str, diff_ids: &[String]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO image_leases VALUES (?1, ?2)")?;
    insert.execute([holder, &diff_ids.join(" ")]).map(drop)
}

pub(crate) fn drop_lease(tx: &Transaction<'_>, holder: &str) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM image_leases WHERE holder = ?1")?.execute([holder]).map(drop)
}
