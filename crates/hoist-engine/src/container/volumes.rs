//! Volumes that are a mount of their own, for as long as the container runs.

use crate::container::driver::Driver;
use crate::container::record::Record;
use crate::error::{Result, Translate};

/// The volumes a container runs with, by name.
pub(crate) fn names(record: &Record) -> impl Iterator<Item = &str> {
    let volumes = record.fixed.mounts.iter().filter(|mount| mount.point.r#type == "volume");
    volumes.map(|mount| mount.point.name.as_str())
}

impl Driver {
    /// Mounts what is not mounted yet. Given back where the container's end is dealt with.
    pub(super) fn take_volumes(&self) -> Result<()> {
        for name in names(&self.record) {
            tokio::task::block_in_place(|| self.context.volumes.take(name, self.record.id())).api()?;
        }
        Ok(())
    }
}
