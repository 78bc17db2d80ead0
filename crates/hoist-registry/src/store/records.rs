//! The registry's tables. SQL lives here only.

use std::collections::BTreeMap;

use hoist_db::{Connection, Db, OptionalExtension, Transaction, params, rusqlite};
use rusqlite::Result;

use super::Push;
use crate::error::Error;
use crate::manifest::Target;
use crate::route::Reference;

/// Appended to, never changed: each step ran on somebody's disk.
const STEPS: &[&str] = &["
    CREATE TABLE repositories (name TEXT PRIMARY KEY, description TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
    CREATE TABLE blobs (digest TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE links (
        repository TEXT NOT NULL REFERENCES repositories (name),
        digest TEXT NOT NULL REFERENCES blobs (digest),
        touched_ns INTEGER NOT NULL,
        PRIMARY KEY (repository, digest)) WITHOUT ROWID;
    CREATE INDEX links_by_digest ON links (digest);
    CREATE TABLE manifests (
        repository TEXT NOT NULL REFERENCES repositories (name),
        digest TEXT NOT NULL REFERENCES blobs (digest),
        media_type TEXT NOT NULL,
        subject TEXT,
        artifact_type TEXT,
        annotations TEXT NOT NULL,
        PRIMARY KEY (repository, digest)) WITHOUT ROWID;
    CREATE INDEX manifests_by_digest ON manifests (digest);
    CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest) WHERE subject IS NOT NULL;
    CREATE TABLE targets (
        repository TEXT NOT NULL,
        manifest TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (repository, manifest, digest),
        FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest) ON DELETE CASCADE) WITHOUT ROWID;
    CREATE INDEX targets_by_digest ON targets (repository, digest);
    CREATE TABLE tags (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (repository, tag),
        FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest) ON DELETE CASCADE) WITHOUT ROWID;
    CREATE INDEX tags_by_digest ON tags (repository, digest);
    CREATE TABLE uploads (id TEXT PRIMARY KEY, repository TEXT NOT NULL, touched_ns INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX uploads_by_time ON uploads (touched_ns);
"];

/// What is known of a manifest without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredManifest {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) size_bytes: u64,
}

/// A manifest in a list of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referrer {
    pub(crate) manifest: StoredManifest,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A repository that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) description: String,
}

/// What a manifest names and the repository does not have, or has in another size.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) digest: String,
    pub(crate) said_size: u64,
    pub(crate) recorded_size: Option<u64>,
}

pub(crate) fn migrate(db: &Db) -> std::result::Result<(), Error> {
    Ok(db.migrate("registry", STEPS)?)
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn unsigned(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

pub(super) fn blobs(c: &Connection) -> Result<Vec<String>> {
    c.prepare("SELECT digest FROM blobs")?.query_map([], |row| row.get(0))?.collect()
}

pub(super) fn put_blob(tx: &Transaction<'_>, digest: &str, size_bytes: u64) -> Result<()> {
    tx.execute("INSERT OR IGNORE INTO blobs VALUES (?1, ?2)", params![digest, size(size_bytes)]).map(drop)
}

fn put_repository(tx: &Transaction<'_>, name: &str) -> Result<()> {
    tx.execute("INSERT OR IGNORE INTO repositories (name) VALUES (?1)", [name]).map(drop)
}

/// Gives a repository a blob, or makes it new there.
pub(super) fn link_blob(tx: &Transaction<'_>, repository: &str, digest: &str, now_ns: i64) -> Result<()> {
    put_repository(tx, repository)?;
    tx.execute(
        "INSERT INTO links VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET touched_ns = excluded.touched_ns",
        params![repository, digest, now_ns],
    )
    .map(drop)
}

pub(super) fn unlink_blob(tx: &Transaction<'_>, repository: &str, digest: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM links WHERE repository = ?1 AND digest = ?2", [repository, digest])? > 0)
}

pub(super) fn blob_size(c: &Connection, repository: &str, digest: &str) -> Result<Option<u64>> {
    let mut query = c.prepare_cached(
        "SELECT size_bytes FROM links JOIN blobs USING (digest) WHERE repository = ?1 AND digest = ?2",
    )?;
    Ok(query.query_row([repository, digest], |row| row.get(0)).optional()?.map(unsigned))
}

/// The same, and it counts as new.
pub(super) fn touch_blob(tx: &Transaction<'_>, repository: &str, digest: &str, now_ns: i64) -> Result<Option<u64>> {
    let mut update = tx.prepare_cached("UPDATE links SET touched_ns = ?3 WHERE repository = ?1 AND digest = ?2")?;
    update.execute(params![repository, digest, now_ns])?;
    blob_size(tx, repository, digest)
}

/// Whether a repository, or any, has the blob.
pub(super) fn has_blob(tx: &Transaction<'_>, repository: Option<&str>, digest: &str) -> Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM links WHERE digest = ?1 AND (?2 IS NULL OR repository = ?2))";
    tx.query_row(query, params![digest, repository], |row| row.get(0))
}

/// A manifest that needs this blob.
pub(super) fn manifest_with(c: &Connection, repository: &str, digest: &str) -> Result<Option<String>> {
    let query = "SELECT manifest FROM targets WHERE repository = ?1 AND digest = ?2 LIMIT 1";
    c.query_row(query, [repository, digest], |row| row.get(0)).optional()
}

/// The first target that the repository does not have as the manifest says.
pub(super) fn missing_target(c: &Connection, repository: &str, targets: &[Target]) -> Result<Option<Missing>> {
    let mut manifests = c.prepare_cached(
        "SELECT size_bytes FROM manifests JOIN blobs USING (digest) WHERE repository = ?1 AND digest = ?2",
    )?;
    for target in targets {
        let recorded_size = if target.is_manifest {
            manifests.query_row([repository, &target.digest], |row| row.get(0)).optional()?.map(unsigned)
        } else {
            blob_size(c, repository, &target.digest)?
        };
        if recorded_size != Some(target.size_bytes) {
            let (digest, said_size) = (target.digest.clone(), target.size_bytes);
            return Ok(Some(Missing { digest, said_size, recorded_size }));
        }
    }
    Ok(None)
}

pub(super) fn put_manifest(
    tx: &Transaction<'_>,
    push: &Push<'_>,
    description: Option<&str>,
    now_ns: i64,
) -> Result<()> {
    let (repository, digest, manifest) = (push.repository, push.digest, push.manifest);
    let annotations = serde_json::to_string(&manifest.annotations).unwrap_or_default();
    put_repository(tx, repository)?;
    put_blob(tx, digest, push.bytes.len() as u64)?;
    tx.execute(
        "INSERT INTO manifests VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET
            media_type = excluded.media_type, artifact_type = excluded.artifact_type",
        params![repository, digest, manifest.media_type, manifest.subject, manifest.artifact_type, annotations],
    )?;
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO targets VALUES (?1, ?2, ?3)")?;
    // What it names is as new as itself: a delete at once must not race with a push of something like it.
    let mut touch = tx.prepare_cached("UPDATE links SET touched_ns = ?3 WHERE repository = ?1 AND digest = ?2")?;
    for target in &manifest.targets {
        insert.execute([repository, digest, &target.digest])?;
        touch.execute(params![repository, target.digest, now_ns])?;
    }
    let mut tag = tx.prepare_cached(
        "INSERT INTO tags VALUES (?1, ?2, ?3) ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest",
    )?;
    for name in push.tags {
        tag.execute([repository, name, digest])?;
    }
    if let Some(description) = description {
        tx.execute("UPDATE repositories SET description = ?2 WHERE name = ?1", [repository, description])?;
    }
    Ok(())
}

pub(super) fn manifest(c: &Connection, repository: &str, reference: &Reference) -> Result<Option<StoredManifest>> {
    let (query, key) = match reference {
        Reference::Digest(digest) => (
            "SELECT digest, media_type, size_bytes FROM manifests JOIN blobs USING (digest)
             WHERE repository = ?1 AND digest = ?2",
            digest,
        ),
        Reference::Tag(tag) => (
            "SELECT m.digest, m.media_type, b.size_bytes FROM tags t
             JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest
             JOIN blobs b ON b.digest = m.digest WHERE t.repository = ?1 AND t.tag = ?2",
            tag,
        ),
    };
    c.prepare_cached(query)?.query_row([repository, key], stored_manifest).optional()
}

fn stored_manifest(row: &rusqlite::Row<'_>) -> Result<StoredManifest> {
    Ok(StoredManifest { digest: row.get(0)?, media_type: row.get(1)?, size_bytes: unsigned(row.get(2)?) })
}

pub(super) fn drop_manifest(tx: &Transaction<'_>, repository: &str, digest: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM manifests WHERE repository = ?1 AND digest = ?2", [repository, digest])? > 0)
}

pub(super) fn drop_tag(tx: &Transaction<'_>, repository: &str, tag: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM tags WHERE repository = ?1 AND tag = ?2", [repository, tag])? > 0)
}

/// None if there is no such repository.
pub(super) fn tags(c: &Connection, repository: &str, last: &str, count: u32) -> Result<Option<Vec<String>>> {
    let query = "SELECT EXISTS (SELECT 1 FROM repositories WHERE name = ?1)";
    if !c.query_row(query, [repository], |row| row.get::<_, bool>(0))? {
        return Ok(None);
    }
    let mut query =
        c.prepare_cached("SELECT tag FROM tags WHERE repository = ?1 AND tag > ?2 ORDER BY tag LIMIT ?3")?;
    query.query_map(params![repository, last, count], |row| row.get(0))?.collect::<Result<_>>().map(Some)
}

pub(super) fn repositories(c: &Connection, last: &str, count: u32) -> Result<Vec<String>> {
    let mut query = c.prepare_cached(
        "SELECT name FROM repositories WHERE name > ?1
         AND EXISTS (SELECT 1 FROM manifests WHERE repository = name) ORDER BY name LIMIT ?2",
    )?;
    query.query_map(params![last, count], |row| row.get(0))?.collect()
}

pub(super) fn referrers(
    c: &Connection,
    repository: &str,
    subject: &str,
    artifact_type: Option<&str>,
    (last, count): (&str, u32),
) -> Result<Vec<Referrer>> {
    let mut query = c.prepare_cached(
        "SELECT digest, media_type, size_bytes, artifact_type, annotations FROM manifests JOIN blobs USING (digest)
         WHERE repository = ?1 AND subject = ?2 AND digest > ?4 AND (?3 IS NULL OR artifact_type = ?3)
         ORDER BY digest LIMIT ?5",
    )?;
    let rows = query.query_map(params![repository, subject, artifact_type, last, count], |row| {
        let annotations: String = row.get(4)?;
        Ok(Referrer {
            manifest: stored_manifest(row)?,
            artifact_type: row.get(3)?,
            annotations: serde_json::from_str(&annotations).unwrap_or_default(),
        })
    })?;
    rows.collect()
}

pub(super) fn search(c: &Connection, term: &str, offset: u64, count: u32) -> Result<(u64, Vec<Found>)> {
    const MATCHES: &str = "FROM repositories WHERE (instr(name, ?1) > 0 OR instr(lower(description), ?1) > 0)
         AND EXISTS (SELECT 1 FROM manifests WHERE repository = name)";
    let term = term.to_lowercase();
    let total = c.query_row(&format!("SELECT count(*) {MATCHES}"), [&term], |row| row.get(0))?;
    // The name itself first, then names that begin with it, then the others.
    let mut query = c.prepare_cached(&format!(
        "SELECT name, description {MATCHES} ORDER BY name <> ?1, instr(name, ?1) <> 1, name LIMIT ?2 OFFSET ?3"
    ))?;
    let page = query.query_map(params![term, count, size(offset)], |row| {
        Ok(Found { name: row.get(0)?, description: row.get(1)? })
    })?;
    Ok((unsigned(total), page.collect::<Result<_>>()?))
}

pub(super) fn put_upload(tx: &Transaction<'_>, id: &str, repository: &str, now_ns: i64) -> Result<()> {
    tx.execute("INSERT INTO uploads VALUES (?1, ?2, ?3)", params![id, repository, now_ns]).map(drop)
}

/// Whether the repository has this upload; it counts as used now.
pub(super) fn touch_upload(tx: &Transaction<'_>, id: &str, repository: &str, now_ns: i64) -> Result<bool> {
    let change = "UPDATE uploads SET touched_ns = ?3 WHERE id = ?1 AND repository = ?2";
    Ok(tx.execute(change, params![id, repository, now_ns])? > 0)
}

pub(super) fn drop_upload(tx: &Transaction<'_>, id: &str) -> Result<()> {
    tx.execute("DELETE FROM uploads WHERE id = ?1", [id]).map(drop)
}

/// Ids of all uploads, the one that was left alone longest first.
pub(super) fn uploads(c: &Connection) -> Result<Vec<String>> {
    c.prepare("SELECT id FROM uploads ORDER BY touched_ns")?.query_map([], |row| row.get(0))?.collect()
}

/// Uploads that nobody used since then, and those beyond the newest `max`.
pub(super) fn idle_uploads(c: &Connection, before_ns: i64, max: u32) -> Result<Vec<String>> {
    let mut query = c.prepare(
        "SELECT id FROM uploads WHERE touched_ns < ?1
         UNION SELECT id FROM (SELECT id FROM uploads ORDER BY touched_ns DESC LIMIT -1 OFFSET ?2)",
    )?;
    query.query_map(params![before_ns, max], |row| row.get(0))?.collect()
}

/// Takes links away that no manifest needs and nobody touched since then, and then the records of blobs that no repository
/// has: at most `max`, whose digests come back.
pub(super) fn drop_garbage(tx: &Transaction<'_>, before_ns: i64, max: u32) -> Result<Vec<String>> {
    tx.execute(
        "DELETE FROM links WHERE touched_ns < ?1 AND NOT EXISTS
            (SELECT 1 FROM targets t WHERE t.repository = links.repository AND t.digest = links.digest)",
        [before_ns],
    )?;
    let mut query = tx.prepare(
        "SELECT digest FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM links WHERE digest = b.digest)
            AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = b.digest) LIMIT ?1",
    )?;
    let digests = query.query_map([max], |row| row.get(0))?.collect::<Result<Vec<String>>>()?;
    let mut delete = tx.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?;
    for digest in &digests {
        delete.execute([digest])?;
    }
    tx.execute(
        "DELETE FROM repositories WHERE NOT EXISTS (SELECT 1 FROM links WHERE repository = name)
            AND NOT EXISTS (SELECT 1 FROM manifests WHERE repository = name)",
        [],
    )?;
    Ok(digests)
}
