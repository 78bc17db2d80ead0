//! The store's tables: what is written when an image, a name or a lease comes and goes. SQL lives here only.

use std::collections::HashMap;

use hoist_db::{Db, OptionalExtension, Transaction, params, rusqlite};

use crate::Error;
use crate::manifest::Descriptor;

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
    // Whatever was there when times began to be kept counts as used then.
    "
    ALTER TABLE layers ADD COLUMN disk_bytes INTEGER;
    ALTER TABLE images ADD COLUMN used_ns INTEGER NOT NULL DEFAULT 0;
    UPDATE images SET used_ns = CAST(strftime('%s', 'now') AS INTEGER) * 1000000000;
    CREATE TABLE image_pins (
        pinned TEXT PRIMARY KEY,
        image_id TEXT REFERENCES images (id) ON DELETE CASCADE,
        reference TEXT REFERENCES image_names (reference) ON DELETE CASCADE) WITHOUT ROWID;
    CREATE INDEX image_pins_by_image ON image_pins (image_id);
    CREATE INDEX image_pins_by_reference ON image_pins (reference);
    CREATE TABLE image_vouchers (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        reference TEXT NOT NULL,
        rule TEXT NOT NULL,
        PRIMARY KEY (image_id, reference, rule)) WITHOUT ROWID;
",
    // Of images from before nobody knows it: they count as others'.
    "
    ALTER TABLE images ADD COLUMN made_here INTEGER NOT NULL DEFAULT 0;
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
    /// When it was last pulled, tagged, loaded, or used by a container.
    pub(crate) used_ns: i64,
    /// Whether this engine made it: it was neither pulled nor loaded when it came.
    pub(crate) made_here: bool,
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

impl LayerSource {
    /// As a manifest names it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        let (media_type, digest) = (self.media_type.clone(), self.digest.clone());
        Descriptor { media_type, digest, size: self.size_bytes, ..Descriptor::default() }
    }
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
    /// What layers take on disk, as far as it was measured.
    pub(crate) disk_bytes: HashMap<String, u64>,
    /// Canonical reference to image id.
    pub(crate) names: Vec<(String, String)>,
    /// Image id, digest, media type.
    pub(crate) blobs: Vec<(String, String, String)>,
    pub(crate) leases: HashMap<String, Vec<String>>,
    /// Canonical references and image ids.
    pub(crate) pins: Vec<String>,
    /// Image id, and what it was checked by.
    pub(crate) vouchers: Vec<(String, Voucher)>,
}

/// Says that an image, pulled by this name, met this rule of a signature policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voucher {
    /// Canonical.
    pub(crate) reference: String,
    /// The rule's digest.
    pub(crate) rule: String,
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
        let mut query = c.prepare("SELECT id, parent, tagged_ns, used_ns, made_here FROM images")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (id, parent, tagged_ns, used_ns) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let (made_here, diff_ids) = (row.get(4)?, layers.remove(&id).unwrap_or_default());
            snapshot.images.push(ImageRecord { id, parent, tagged_ns, used_ns, made_here, diff_ids });
        }
        let mut query = c.prepare("SELECT diff_id, size_bytes, tar_bytes, disk_bytes FROM layers")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let count = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
            let diff_id: String = row.get(0)?;
            let bytes = LayerBytes { content: count(row.get(1)?).unwrap_or(0), tar: count(row.get(2)?) };
            if let Some(on_disk) = count(row.get(3)?) {
                snapshot.disk_bytes.insert(diff_id.clone(), on_disk);
            }
            snapshot.layers.insert(diff_id, bytes);
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
        let mut query = c.prepare("SELECT pinned FROM image_pins")?;
        snapshot.pins = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut query = c.prepare("SELECT image_id, reference, rule FROM image_vouchers")?;
        let voucher =
            |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Voucher { reference: row.get(1)?, rule: row.get(2)? }));
        snapshot.vouchers = query.query_map([], voucher)?.collect::<rusqlite::Result<_>>()?;
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

/// Remembers what a layer takes on disk; nothing: it is to be measured again.
pub(crate) fn set_disk_bytes(tx: &Transaction<'_>, diff_id: &str, bytes: Option<u64>) -> rusqlite::Result<()> {
    let sql = "UPDATE layers SET disk_bytes = ?2 WHERE diff_id = ?1";
    tx.execute(sql, params![diff_id, bytes.map(signed)]).map(drop)
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

/// Adds an image or, if it is there, its newer tag time; who made it stays as it was.
pub(crate) fn put_image(tx: &Transaction<'_>, image: &ImageRecord) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO images (id, parent, tagged_ns, used_ns, made_here) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET
            tagged_ns = max(tagged_ns, excluded.tagged_ns), used_ns = max(used_ns, excluded.used_ns),
            parent = coalesce(excluded.parent, parent)",
        params![image.id, image.parent, image.tagged_ns, image.used_ns, image.made_here],
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

pub(crate) fn set_used(tx: &Transaction<'_>, id: &str, used_ns: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE images SET used_ns = max(used_ns, ?2) WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![id, used_ns]).map(drop)
}

/// Pins a name, or, where that is an id, an image whatever its names. The pin goes with what it is on.
pub(crate) fn put_pin(tx: &Transaction<'_>, pinned: &str) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO image_pins VALUES (?1,
            (SELECT id FROM images WHERE id = ?1), (SELECT reference FROM image_names WHERE reference = ?1))",
        [pinned],
    )
    .map(drop)
}

pub(crate) fn drop_pin(tx: &Transaction<'_>, pinned: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM image_pins WHERE pinned = ?1", [pinned]).map(drop)
}

pub(crate) fn put_voucher(tx: &Transaction<'_>, image_id: &str, voucher: &Voucher) -> rusqlite::Result<()> {
    let values = [image_id, &voucher.reference, &voucher.rule];
    tx.execute("INSERT OR IGNORE INTO image_vouchers VALUES (?1, ?2, ?3)", values).map(drop)
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
