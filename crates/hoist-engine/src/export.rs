//! `export`: a container's root as one archive, without its volumes.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::archive;
use crate::container::record::{Record, Status};
use crate::containers::Containers;
use crate::error::{Error, Result};

/// A container about to be exported.
#[derive(Debug)]
pub struct Export {
    record: Arc<Record>,
    layers: Vec<PathBuf>,
    containers: Containers,
}

impl Containers {
    /// Finds what is to be exported, so that what cannot be is known before anything is written.
    pub fn export(&self, name: &str) -> Result<Export> {
        let record = self.record(name)?;
        match record.state.status {
            Status::Dead => Err(Error::conflict(format!("You cannot export container {} which is dead", record.id()))),
            Status::Removing => {
                Err(Error::conflict(format!("You cannot export container {} which is being removed", record.id())))
            }
            _ => {
                let mut layers = vec![self.context().directory(record.id()).join("upper")];
                layers.extend(record.fixed.layers.iter().cloned());
                Ok(Export { record, layers, containers: self.clone() })
            }
        }
    }
}

impl Export {
    /// Writes the archive. Blocking.
    pub fn write(self, out: impl Write) -> Result<()> {
        archive::write_root(&self.layers, out)
            .map_err(|e| Error::internal(format!("cannot export container {}: {e}", self.record.id())))?;
        let events = &self.containers.context().events;
        events.emit("container", "export", self.record.id(), self.record.event_attributes());
        Ok(())
    }
}
