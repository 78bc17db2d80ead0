//! What becomes of images with time: when they were last used, which are pinned, what they take on disk, and which go
//! when that is too much.

use std::collections::HashSet;

use hoist_api::reference::Reference;

use crate::budget::Choice;
use crate::{Digest, Error, Image, Store, allocated, index, records};

/// What the store takes on disk, in bytes of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskBytes {
    /// Unpacked layers and the records that write their tars again.
    pub layers: u64,
    /// Configs and manifests.
    pub documents: u64,
    /// Downloads, interrupted ones among them, and other work in progress.
    pub in_progress: u64,
    /// Removed, and not off the disk yet.
    pub leaving: u64,
    /// The store's own directories, and whatever else lies in them.
    pub other: u64,
}

impl DiskBytes {
    /// All but what goes anyway.
    pub fn images(self) -> u64 {
        self.layers.saturating_add(self.documents).saturating_add(self.in_progress)
    }
}

impl Store {
    /// Notes that an image is used now. From memory; the tables hear of it later, and not every time.
    pub fn touch(&self, id: &str) {
        let now = crate::now_ns();
        if !self.shared.index().touch(id, now) {
            return;
        }
        let (image, id) = (id.to_owned(), id.to_owned());
        let told = move |written: Result<(), hoist_db::Error>| {
            if let Err(e) = written {
                tracing::warn!(%image, error = %e, "when the image was last used is not written down");
            }
        };
        self.shared.db.write_later(false, move |tx| records::set_used(tx, &id, now), told);
    }

    /// Unix nanoseconds of the last pull, tag, load, or use by a container.
    pub fn last_used_ns(&self, image: &Image) -> i64 {
        self.shared.index().used_ns(&image.id)
    }

    /// Keeps an image from being pruned: by a name, whatever image that comes to stand for, or by its id.
    pub fn pin(&self, name: &str) -> Result<Digest, Error> {
        let _serial = self.shared.commit_lock();
        let (id, pinned) = self.pinnable(name)?;
        self.shared.db.write_durable(|tx| records::put_pin(tx, &pinned))?;
        self.shared.index_mut().put_pin(&pinned);
        Ok(id)
    }

    /// Takes a pin away; an id stands for every pin of the image, a name for its own alone. What keeps it pinned all the same comes back.
    pub fn unpin(&self, name: &str) -> Result<(Digest, Vec<String>), Error> {
        let _serial = self.shared.commit_lock();
        let (id, pinned) = self.pinnable(name)?;
        let pins = self.shared.index().pins_of(&id);
        let (gone, kept): (Vec<_>, Vec<_>) = pins.into_iter().partition(|pin| pinned == id || *pin == pinned);
        self.shared.db.write_durable(|tx| gone.iter().try_for_each(|pin| records::drop_pin(tx, pin)))?;
        let mut index = self.shared.index_mut();
        gone.iter().for_each(|pin| index.drop_pin(pin));
        let familiar = |name: &String| Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
        Ok((id, kept.iter().map(familiar).collect()))
    }

    /// The image's id, and what a pin by this name is on.
    fn pinnable(&self, name: &str) -> Result<(Digest, String), Error> {
        let index = self.shared.index();
        let id = index.resolve(name)?.to_owned();
        let by_name = Reference::parse(name).ok().filter(|reference| index.by_name(reference) == Some(id.as_str()));
        let pinned = match by_name {
            Some(reference) if !index::is_id_prefix(&id, name) => index::lookup_key(&reference),
            _ => id.clone(),
        };
        Ok((id, pinned))
    }

    /// Looks up what layers take that were not measured yet. Blocking.
    pub fn measure_layers(&self) -> Result<(), Error> {
        let unmeasured = self.shared.index().unmeasured();
        for diff_id in unmeasured {
            let directory = self.shared.disk.layer(&diff_id);
            let bytes = match allocated::bytes(&directory) {
                Ok(bytes) => bytes,
                // Dropped meanwhile, or lost.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
                Err(e) => return Err(Error::io("measure", &directory)(e)),
            };
            self.shared.index_mut().set_disk_bytes(&diff_id, Some(bytes));
            let (layer, id) = (diff_id.clone(), diff_id);
            let told = move |written: Result<(), hoist_db::Error>| {
                if let Err(e) = written {
                    tracing::warn!(%layer, error = %e, "what the layer takes on disk is not written down");
                }
            };
            self.shared.db.write_later(false, move |tx| records::set_disk_bytes(tx, &id, Some(bytes)), told);
        }
        Ok(())
    }

    /// What all of it takes on disk. Blocking: layers that were not measured yet are now.
    pub fn disk_bytes(&self) -> Result<DiskBytes, Error> {
        self.measure_layers()?;
        let disk = &self.shared.disk;
        let measure = |path: &std::path::Path| allocated::bytes(path).map_err(Error::io("measure", path));
        let own = |path: &std::path::Path| allocated::own_bytes(path).map_err(Error::io("measure", path));
        Ok(DiskBytes {
            layers: self.shared.index().layers_disk_bytes().saturating_add(own(&disk.layers())?),
            documents: measure(disk.blobs.root())?,
            in_progress: measure(&disk.tmp())?.saturating_add(measure(&disk.partial())?),
            leaving: measure(&disk.trash())?,
            other: self.other_bytes()?,
        })
    }

    fn other_bytes(&self) -> Result<u64, Error> {
        let disk = &self.shared.disk;
        let counted = [disk.layers(), disk.blobs.root().to_owned(), disk.tmp(), disk.partial(), disk.trash()];
        let root = disk.root();
        let mut total = allocated::own_bytes(root).map_err(Error::io("measure", root))?;
        for entry in std::fs::read_dir(root).map_err(Error::io("read", root))? {
            let path = entry.map_err(Error::io("read", root))?.path();
            if !counted.contains(&path) {
                total = total.saturating_add(allocated::bytes(&path).map_err(Error::io("measure", &path))?);
            }
        }
        Ok(total)
    }

    /// Which images are to go so that so many bytes come free. `used` are those that containers have, `spared` those that
    /// stay whatever it costs.
    pub fn choose(&self, excess_bytes: u64, used: &HashSet<Digest>, spared: &HashSet<Digest>) -> Choice {
        let holdings = self.shared.index().holdings();
        holdings.choose(excess_bytes, used, spared)
    }
}

#[cfg(test)]
mod tests;
