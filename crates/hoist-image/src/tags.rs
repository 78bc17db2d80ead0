//! Putting names on images.

use hoist_api::reference::Reference;

use crate::{Error, Store, index, records};

impl Store {
    /// `docker tag`: gives `image` another name, taking it from whichever image had it.
    pub fn tag(&self, image: &str, reference: &Reference) -> Result<(), Error> {
        if reference.digest.is_some() {
            return Err(Error::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        check_name(reference)?;
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

/// Refuses the name of which a tag would look like a digest.
pub(crate) fn check_name(reference: &Reference) -> Result<(), Error> {
    if reference.digest.is_none() && reference.familiar_name() == "sha256" {
        let text = "refusing to create an ambiguous tag using digest algorithm as name";
        return Err(Error::Invalid(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_looks_like_a_digest() {
        let checked = |name: &str| check_name(&Reference::parse(name).unwrap());
        assert!(checked("sha256:1").unwrap_err().to_string().contains("ambiguous tag"));
        assert!(checked("docker.io/library/sha256").is_err());
        for good in ["sha256x:1", "me/sha256:1", "localhost:5000/sha256:1", "sha512:1"] {
            checked(good).unwrap();
        }
    }
}
