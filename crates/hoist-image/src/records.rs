//! The store's tables: what is written when an image, a name or a lease comes and goes. SQL lives here only.

use std::collections::HashMap;

use hoist_db::{Db, OptionalExtension, Transaction, params, rusqlite};

use crate::Error;

/// Appended to, never changed: each step ran on somebody's disk.
const STEPS: &[&str] = &[
    "
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
",
    "
    ALTER TABLE layers ADD COLUMN tar_bytes INTEGER;
    CREATE TABLE layer_sources (
        diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        repository TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        known_ns INTEGER NOT NULL,
        PRIMARY KEY (diff_id, digest, repository)) WITHOUT ROWID;
",
];

/// More places of one layer than these are not remembered: the longest unconfirmed ones go.
const SOURCES_MAX: i64 = 64;

/// One row of `images` with its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRecord {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) tagged_ns: i64,
    pub(crate) diff_ids: Vec<String>,
}

/// How large a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerBytes {
    /// Of its files.
    pub(crate) content: u64,
    /// Of its tar, uncompressed; layers of old stores do not say.
    pub(crate) tar: Option<u64>,
}

/// A form of a layer that some repository has, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerSource {
    pub(crate) diff_id: String,
    /// Of the bytes there, compressed mostly.
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
    pub(crate) media_type: String,
    /// `docker.io/library/busybox`; "" says that compressing the layer here gives this form.
    pub(crate) repository: String,
}

/// What an image that comes in says about a layer.
#[derive(Clone, Debug)]
pub(crate) struct SourceDraft {
    pub(crate) source: LayerSource,
    /// These very bytes were unpacked here. Otherwise it is hearsay, and kept only if it repeats what was once proven.
    pub(crate) proven: bool,
}

/// All the tables say.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) images: Vec<ImageRecord>,
    pub(crate) layers: HashMap<String, LayerBytes>,
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
        let mut query = c.prepare("SELECT diff_id, size_bytes, tar_bytes FROM layers")?;
        for row in query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?)))? {
            let (diff_id, content, tar) = row?;
            let tar = tar.and_then(|tar| u64::try_from(tar).ok());
            snapshot.layers.insert(diff_id, LayerBytes { content: u64::try_from(content).unwrap_or(0), tar });
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

pub(crate) fn put_layer(tx: &Transaction<'_>, diff_id: &str, bytes: LayerBytes) -> rusqlite::Result<()> {
    let tar = bytes.tar.map(signed);
    let sql = "INSERT OR IGNORE INTO layers (diff_id, size_bytes, tar_bytes) VALUES (?1, ?2, ?3)";
    tx.execute(sql, params![diff_id, signed(bytes.content), tar]).map(drop)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Remembers where a layer is to be had; the layer itself must be recorded.
pub(crate) fn put_source(tx: &Transaction<'_>, draft: &SourceDraft, known_ns: i64) -> rusqlite::Result<()> {
    let LayerSource { diff_id, digest, size_bytes, media_type, repository } = &draft.source;
    let known = |tx: &Transaction<'_>| {
        let sql = "SELECT 1 FROM layer_sources WHERE diff_id = ?1 AND digest = ?2";
        tx.query_row(sql, [diff_id, digest], |_| Ok(())).optional()
    };
    // An uncompressed layer is its own proof.
    if !draft.proven && digest != diff_id && known(tx)?.is_none() {
        return Ok(());
    }
    tx.execute(
        "INSERT OR REPLACE INTO layer_sources (diff_id, digest, repository, size_bytes, media_type, known_ns)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![diff_id, digest, repository, signed(*size_bytes), media_type, known_ns],
    )?;
    tx.execute(
        "DELETE FROM layer_sources WHERE diff_id = ?1 AND (digest, repository) NOT IN
         (SELECT digest, repository FROM layer_sources WHERE diff_id = ?1 ORDER BY known_ns DESC LIMIT ?2)",
        params![diff_id, SOURCES_MAX],
    )
    .map(drop)
}

/// Where a layer is to be had, the latest confirmed first.
pub(crate) fn sources(db: &Db, diff_id: &str) -> Result<Vec<LayerSource>, Error> {
    Ok(db.read(|c| {
        let mut query = c.prepare_cached(
            "SELECT digest, repository, size_bytes, media_type FROM layer_sources WHERE diff_id = ?1
             ORDER BY known_ns DESC, digest, repository",
        )?;
        let rows = query.query_map([diff_id], |row| {
            Ok(LayerSource {
                diff_id: diff_id.to_owned(),
                digest: row.get(0)?,
                repository: row.get(1)?,
                size_bytes: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
                media_type: row.get(3)?,
            })
        })?;
        rows.collect::<rusqlite::Result<_>>()
    })?)
}

/// Digest and media type of the documents by which an image came, its config among them.
pub(crate) fn image_blobs(db: &Db, image_id: &str) -> Result<Vec<(String, String)>, Error> {
    Ok(db.read(|c| {
        let mut query = c.prepare_cached("SELECT digest, media_type FROM image_blobs WHERE image_id = ?1")?;
        query.query_map([image_id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()
    })?)
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
