//! The signature policy where no registry is asked: images that come in as files, and images that are about to be used.

use hoist_api::reference::Reference;

use crate::records::Voucher;
use crate::signature::local::Source;
use crate::{Error, Image, Store, index, records};

impl Store {
    /// Refuses an image that the policy would not let in, though it is here: `name` is how somebody asked for it.
    pub fn admits(&self, image: &Image, name: &str) -> Result<(), Error> {
        let config = self.config();
        let Some(policy) = &config.signature_policy else { return Ok(()) };
        let index = self.shared.index();
        let names = match Reference::parse(name) {
            Ok(name) if index.by_name(&name) == Some(image.id.as_str()) => vec![name.with_default_tag()],
            _ => index.references(&image.id),
        };
        policy.admits_here(&names, index.vouchers(&image.id))
    }

    /// Refuses an image that is about to come in from a file. `id` may be one that is here already.
    pub(crate) fn check_arrival(&self, source: Source, id: &str, names: &[Reference]) -> Result<(), Error> {
        let config = self.config();
        let Some(policy) = &config.signature_policy else { return Ok(()) };
        policy.admits_from(source, names, self.shared.index().vouchers(id))
    }

    /// Remembers by which rules a pull found an image to be signed.
    pub(crate) fn vouch(&self, id: &str, name: &Reference, rules: Vec<String>) -> Result<(), Error> {
        let reference = index::lookup_key(name);
        let vouchers = rules.into_iter().map(|rule| Voucher { reference: reference.clone(), rule });
        let fresh: Vec<Voucher> = {
            let index = self.shared.index();
            vouchers.filter(|voucher| !index.vouchers(id).contains(voucher)).collect()
        };
        if fresh.is_empty() {
            return Ok(());
        }
        let _serial = self.shared.commit_lock();
        if self.shared.index().by_id(id).is_none() {
            // Removed meanwhile, and with it what was known of it.
            return Ok(());
        }
        self.shared.db.write_durable(|tx| fresh.iter().try_for_each(|v| records::put_voucher(tx, id, v)))?;
        let mut index = self.shared.index_mut();
        fresh.into_iter().for_each(|voucher| index.put_voucher(id, voucher));
        Ok(())
    }
}
