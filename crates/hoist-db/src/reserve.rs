//! Room that the database has on disk before it needs it, so that on a full disk things can still be removed: a removal
//! writes too. The blocks belong to the database's own files beyond their ends; whoever fills the disk cannot take them.
//!
//! SQLite's log grows until what is in it is copied into the database, after [`CHECKPOINT_PAGES`], and begins anew then. The
//! log has room for that and for some more, the database for all that the log may bring. SQLite removes the log when it
//! closes the database, and with it the room, which somebody may take before the next start: so the file is kept under
//! another name meanwhile.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// SQLite's `wal_autocheckpoint`.
pub(crate) const CHECKPOINT_PAGES: u32 = 1000;
/// A log of so many pages, and a quarter more for changes that are larger or come when it cannot begin anew.
const ROOM_BYTES: u64 = CHECKPOINT_PAGES as u64 * 5 / 4 * 4096;
/// The field `st_blocks` counts in these, stat(3type).
const BLOCK_BYTES: u64 = 512;
/// A log that begins with zeros is an empty one (SQLite, "WAL-mode File Format").
const LOG_HEADER_BYTES: usize = 32;

/// The reserve of one database file. Made before the database is opened, dropped after it was closed.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// Held until the end: closing any descriptor of a file ends SQLite's locks on it (fcntl(2)).
    database: File,
    log: PathBuf,
    kept: PathBuf,
}

impl Reserve {
    /// Brings back what the last use left. The files may be new.
    pub(crate) fn open(database: &Path) -> io::Result<Reserve> {
        let beside = |suffix: &str| {
            let mut name = database.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (log, kept) = (beside("-wal"), beside("-wal-kept"));
        if log.exists() {
            // A use that did not come to its end; its log may have what the database lacks.
            remove_if_there(&kept)?;
        } else {
            match fs::rename(&kept, &log) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        let database = File::options().create(true).append(true).open(database)?;
        allocate(&database, database.metadata()?.len() + ROOM_BYTES);
        Ok(Reserve { database, log, kept })
    }

    /// Takes room for the log, which SQLite has made by now.
    pub(crate) fn reserve_log(&self) {
        if let Ok(log) = File::options().append(true).open(&self.log) {
            allocate(&log, ROOM_BYTES);
        }
    }

    /// To be called after each change: whenever SQLite has copied the log into the database, it cuts off what lies beyond.
    pub(crate) fn after_change(&self) {
        if let Ok(metadata) = self.database.metadata()
            && metadata.blocks() * BLOCK_BYTES < metadata.len() + ROOM_BYTES
        {
            allocate(&self.database, metadata.len() + ROOM_BYTES);
        }
    }

    /// Before SQLite closes the database, and removes the log.
    pub(crate) fn keep_log(&self) {
        // Without it the next use reserves what it finds.
        _ = fs::hard_link(&self.log, &self.kept);
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if self.log.exists() {
            // It was not closed in order, and whatever is in the log is needed.
            _ = remove_if_there(&self.kept);
            return;
        }
        // All of it is in the database: nobody may read it again.
        let emptied = File::options().write(true).open(&self.kept).and_then(|kept| {
            let length = kept.metadata()?.len();
            let header = [0; LOG_HEADER_BYTES];
            if length == 0 { Ok(()) } else { kept.write_all_at(&header, 0) }
        });
        // Best effort, as above; one that cannot be emptied must go.
        _ = match emptied {
            Ok(()) => fs::rename(&self.kept, &self.log),
            Err(_) => remove_if_there(&self.kept),
        };
    }
}

/// Gives the file blocks up to there; its length stays. On a disk that is nearly full, what is left is for others.
fn allocate(file: &File, bytes: u64) {
    let free_bytes = rustix::fs::fstatvfs(file).map_or(0, |space| space.f_bfree.saturating_mul(space.f_frsize));
    if free_bytes >= 2 * ROOM_BYTES {
        // Best effort: not every file system can do it.
        _ = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes);
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    fn count(db: &Db) -> i64 {
        db.read(|c| c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))).unwrap()
    }

    fn insert(db: &Db) {
        db.write(|tx| tx.execute("INSERT INTO t VALUES (randomblob(20000))", [])).unwrap();
    }

    #[test]
    fn room_for_the_log_stays_while_the_database_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let (path, log) = (home.path().join("db"), home.path().join("db-wal"));
        let room = |path: &Path| fs::metadata(path).unwrap().blocks() * BLOCK_BYTES;
        for expected in 0..3 {
            let db = Db::open(&path).unwrap();
            db.migrate("t", &["CREATE TABLE t (x BLOB)"]).unwrap();
            assert_eq!(count(&db), expected);
            insert(&db);
            assert!(!home.path().join("db-shm").exists());
            drop(db);
            assert!(!home.path().join("db-wal-kept").exists());
            let probe = File::create(home.path().join("probe")).unwrap();
            if rustix::fs::fallocate(&probe, FallocateFlags::KEEP_SIZE, 0, 1).is_ok() {
                assert!(room(&log) >= ROOM_BYTES, "{}", room(&log));
            }
        }
    }

    #[test]
    fn a_database_that_was_not_closed_finds_all_it_was_told() {
        let home = tempfile::tempdir().unwrap();
        let (path, copy) = (home.path().join("db"), home.path().join("copy"));
        drop(Db::open(&path).unwrap());
        let db = Db::open(&path).unwrap();
        db.migrate("t", &["CREATE TABLE t (x BLOB)"]).unwrap();
        (0..5).for_each(|_| insert(&db));
        // What a kill leaves, also one in the middle of closing.
        for suffix in ["", "-wal"] {
            fs::copy(home.path().join(format!("db{suffix}")), home.path().join(format!("copy{suffix}"))).unwrap();
        }
        fs::write(home.path().join("copy-wal-kept"), "anything").unwrap();
        assert_eq!(count(&Db::open(&copy).unwrap()), 5);
        drop(db);
        fs::rename(home.path().join("db-wal"), home.path().join("db-wal-kept")).unwrap();
        assert_eq!(count(&Db::open(&path).unwrap()), 5);
    }
}
