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
        policy.admits_here(&names, index.is_made_here(&image.id), index.vouchers(&image.id))
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use hoist_db::Db;

    use super::*;
    use crate::import::draft;
    use crate::ingest::{ImageDraft, Ingest};
    use crate::{Config, Policy};

    const POLICY: &str = r#"{"default":[{"type":"reject"}],
        "transports":{"containers-storage":{"":[{"type":"insecureAcceptAnything"}]}}}"#;

    #[test]
    fn what_came_before_the_policy_was_not_made_here() {
        let home = tempfile::tempdir().unwrap();
        let open = |config| {
            let db = Db::open(&home.path().join("hoist.db")).unwrap();
            Store::open(&home.path().join("image"), db, config).unwrap()
        };
        let name = |text: &str| Reference::parse(text).unwrap();
        let store = open(Config::default());
        let imported = store.import(&mut &[0; 1024][..], Some(&name("mine:1")), &Default::default(), "", None).unwrap();
        let document = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let come = |made_here| {
            let ingest = Ingest::begin(&store.shared).unwrap();
            let draft = draft(document.to_vec(), vec![name("theirs:1")]);
            ingest.commit(&[ImageDraft { made_here, ..draft }]).unwrap();
        };
        come(false);
        // Nor does that which is here already become so.
        come(true);
        drop(store);
        let policy = Policy::parse(POLICY.as_bytes(), Path::new("/policy.json")).unwrap();
        let store = open(Config { signature_policy: Some(Arc::new(policy)), ..Config::default() });
        let mine = store.get("mine:1").unwrap();
        store.admits(&mine, "mine:1").unwrap();
        store.admits(&mine, &imported).unwrap();
        let refused = store.admits(&store.get("theirs:1").unwrap(), "theirs:1").unwrap_err().to_string();
        assert!(refused.contains("image theirs:1 is refused"), "{refused}");
    }
}
