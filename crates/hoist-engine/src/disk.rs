//! The disk below the root: who has which byte of it, how much is left, and what an error says when that is nothing.

use std::path::Path;

use hoist_api::system::{DiskPart, DiskUsage};
use hoist_image::allocated;

use crate::context::Context;
use crate::engine::Engine;
use crate::error::{Error, Result, Translate, io};
use crate::info::System;

/// Less than this is no room for a container: its directories, its record, its first line of log.
const ROOM_MIN_BYTES: u64 = 64 << 10;
/// How the kernel, SQLite and the C library say that nothing more fits, in small letters.
const FULL: [&str; 3] = ["no space left on device", "database or disk is full", "disk quota exceeded"];

/// Space of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    free_bytes: u64,
    /// The same without what is set aside, as df(1) tells it.
    available_bytes: u64,
    pub(crate) total_bytes: u64,
    /// Whether another file can be made.
    has_names: bool,
}

impl Space {
    /// Of the file system that has this path.
    pub(crate) fn of(path: &Path) -> std::io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space {
            // What is set aside for root is there for us, and for what runs in containers as root.
            free_bytes: bytes(found.f_bfree),
            available_bytes: bytes(found.f_bavail),
            total_bytes: bytes(found.f_blocks),
            has_names: found.f_files == 0 || found.f_ffree > 0,
        })
    }
}

impl Context {
    /// Refuses what needs room where there is none, before anything is written: what is left is for removing things.
    pub(crate) fn check_room(&self) -> Result<()> {
        let root = &self.settings.root;
        // Where it cannot be told, what is tried tells.
        let Ok(space) = Space::of(root) else { return Ok(()) };
        if space.has_names && space.free_bytes >= ROOM_MIN_BYTES {
            return Ok(());
        }
        Err(self.explain(Error::internal("no room for anything new: no space left on device")))
    }

    /// Says which disk is meant, where an error says that one is full.
    pub(crate) fn explain(&self, mut error: Error) -> Error {
        const MARK: &str = " (the disk of ";
        let text = error.message.to_lowercase();
        if error.message.contains(MARK) || !FULL.iter().any(|full| text.contains(full)) {
            return error;
        }
        let root = &self.settings.root;
        if let Ok(space) = Space::of(root) {
            let (free, total) = (megabytes(space.available_bytes), megabytes(space.total_bytes));
            error.message.push_str(&format!("{MARK}{} has {free} of {total} left)", root.display()));
        }
        error
    }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{}MB", tenths / 10, tenths % 10)
}

impl System {
    /// The same error; where it says that a disk is full, with the name of that disk.
    pub fn explain(&self, error: Error) -> Error {
        self.context().explain(error)
    }
}

impl Engine {
    /// Every byte below the root, as `du -x` counts them, and whose it is. Blocking.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let root = &self.containers.context().settings.root;
        let images = self.images.store().disk_bytes().api()?;
        let mut usage = Breakdown::default();
        usage.add("image layers", images.layers);
        usage.add("image documents", images.documents);
        usage.add("downloads and work in progress", images.in_progress);
        usage.add("being removed", images.leaving);
        usage.add("other", images.other);
        usage.add("other", allocated::own_bytes(root).map_err(io("measure", root))?);
        for entry in std::fs::read_dir(root).map_err(io("read", root))? {
            let path = entry.map_err(io("read", root))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == "image" {
                continue;
            }
            let what = match name.as_str() {
                "containers" => "containers",
                "removed" => "being removed",
                "volumes" => "volumes",
                name if name.starts_with("hoist.db") => "database",
                _ => "other",
            };
            match allocated::bytes(&path) {
                Ok(bytes) => usage.add(what, bytes),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(io("measure", &path)(e)),
            }
        }
        Ok(usage.told(root))
    }
}

#[derive(Default)]
struct Breakdown(Vec<DiskPart>);

impl Breakdown {
    fn add(&mut self, what: &str, bytes: u64) {
        match self.0.iter_mut().find(|part| part.what == what) {
            Some(part) => part.size = part.size.saturating_add(bytes),
            None => self.0.push(DiskPart { what: what.to_owned(), size: bytes }),
        }
    }

    fn told(mut self, root: &Path) -> DiskUsage {
        self.0.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.what.cmp(&b.what)));
        let total = self.0.iter().fold(0_u64, |sum, part| sum.saturating_add(part.size));
        DiskUsage { root: root.display().to_string(), total, parts: self.0 }
    }
}
