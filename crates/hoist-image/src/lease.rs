//! Leases: somebody outside (a container) needs the layers of an image, even when the image itself is removed.

use hoist_db::{Transaction, rusqlite};

use crate::{Error, Image, Store, records};

/// A lease's record, to be written in a transaction of the holder's.
#[derive(Clone, Debug)]
pub struct LeaseChange {
    holder: String,
    diff_ids: Vec<String>,
}

impl LeaseChange {
    /// Writes it.
    pub fn apply(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        records::put_lease(tx, &self.holder, &self.diff_ids)
    }
}

impl Store {
    /// Keeps the layers of `image` while `holder` (a container id) exists; survives restarts. Idempotent. The record is
    /// in the database before this returns, durable with the next durable commit of anybody.
    pub fn lease(&self, holder: &str, image: &Image) -> Result<(), Error> {
        let change = self.lease_deferred(holder, image)?;
        self.shared.db.write(|tx| change.apply(tx))?;
        Ok(())
    }

    /// The same, for this engine only until the change that comes back is made part of a transaction.
    pub fn lease_deferred(&self, holder: &str, image: &Image) -> Result<LeaseChange, Error> {
        let unused = {
            let _serial = self.shared.commit_lock();
            {
                let index = self.shared.index();
                if let Some(gone) = image.diff_ids.iter().find(|id| index.layer_size(id).is_none()) {
                    return Err(Error::Other(format!("layer {gone} of image {} was removed meanwhile", image.id)));
                }
            }
            self.shared.index_mut().put_lease(holder, image.diff_ids.clone())
        };
        self.shared.sweep(unused)?;
        Ok(LeaseChange { holder: holder.to_owned(), diff_ids: image.diff_ids.clone() })
    }

    /// Ends a lease; layers that only it kept are removed. One that is not there is fine.
    pub fn release(&self, holder: &str) -> Result<(), Error> {
        let unused = {
            let _serial = self.shared.commit_lock();
            if self.shared.index().lease(holder).is_none() {
                return Ok(());
            }
            self.shared.db.write(|tx| records::drop_lease(tx, holder))?;
            self.shared.index_mut().drop_lease(holder)
        };
        self.shared.sweep(unused)
    }

    /// Who holds leases, for finding those whose holder is gone.
    pub fn lease_holders(&self) -> Vec<String> {
        self.shared.index().lease_holders().cloned().collect()
    }
}
