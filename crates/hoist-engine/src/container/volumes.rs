//! What a container's start and end mean for its volumes: those that are a mount of their own are mounted for as long as it
//! runs, and the events tell of all.

use hoist_api::container::MountPoint;

use crate::container::driver::Driver;
use crate::container::record::Record;
use crate::error::{Result, Translate};

/// Where a container has volumes.
fn points(record: &Record) -> impl Iterator<Item = &MountPoint> {
    record.fixed.mounts.iter().map(|mount| &mount.point).filter(|point| point.r#type == "volume")
}

/// The volumes a container runs with, by name.
pub(crate) fn names(record: &Record) -> impl Iterator<Item = &str> {
    points(record).map(|point| point.name.as_str())
}

impl Driver {
    /// Mounts what is not mounted yet. Given back where the container's end is dealt with.
    pub(super) fn take_volumes(&mut self) -> Result<()> {
        for name in names(&self.record) {
            tokio::task::block_in_place(|| self.context.volumes.take(name, self.record.id())).api()?;
        }
        self.has_volumes = true;
        for point in points(&self.record) {
            let more = [
                ("destination", point.destination.as_str()),
                ("propagation", point.propagation.as_str()),
                ("read/write", if point.rw { "true" } else { "false" }),
            ];
            self.tell_of_volume("mount", point, &more);
        }
        Ok(())
    }

    /// What [`Driver::take_volumes`] took, in this engine's time or the last one's.
    pub(super) fn give_back_volumes(&mut self) {
        self.context.volumes.give_back(self.record.id());
        if std::mem::take(&mut self.has_volumes) {
            for point in points(&self.record) {
                self.tell_of_volume("unmount", point, &[]);
            }
        }
    }

    fn tell_of_volume(&self, action: &str, point: &MountPoint, more: &[(&str, &str)]) {
        let common = [("container", self.record.id()), ("driver", point.driver.as_str())];
        let attributes = common.iter().chain(more).map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.context.events.emit("volume", action, &point.name, attributes);
    }
}
