//! Putting names on images.

use hoist_api::reference::Reference;

use crate::{Error, Store, index, records};

impl Store {
    /// `docker tag`: gives `image` another name, taking it from whichever image had it.
    pub fn tag(&self, image: &str, reference: &Reference) -> Result<(), Error> {
        if reference.digest.is_some() {
            return Err(Error::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        let _serial = self.shared.commit_lock();
        let id = self.shared.index().resolve(image)?.to_owned();
        let (name, now) = (index::lookup_key(reference), crate::now_ns());
        self.shared.db.write_durable(|tx| {
            records::put_name(tx, &name, &id)?;
            records::set_tagged(tx, &id, now)
        })?;
        let mut index = self.shared.index_mut();
        index.put_name(&name, &id);
        index.set_tagged(&id, now);
        drop(index);
        self.touch(&id);
        Ok(())
    }
}
