//! Which containers hold which volumes, and which volumes go with a container. What is about to go is in the books before it
//! goes, so that a crash in the middle is finished by [`Volumes::finish_removals`]: a hold of a container that is not there
//! is of a create or a removal that was cut short.

use std::collections::BTreeMap;

use crate::store::{self, Fate};
use crate::{Error, Volume, Volumes};

/// How a container came to hold a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Its name was given: the volume outlives the container, whoever made it.
    Name,
    /// Taken over from a container that holds it.
    Container,
}

impl Volumes {
    /// Makes an anonymous volume for a container, which holds it from its first moment.
    pub fn create_for(
        &self,
        container_id: &str,
        driver: &str,
        options: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, Error> {
        self.make("", driver, options, labels, Some(container_id))
    }

    /// A container holds a volume from create to rm; held volumes cannot be removed. Idempotent, durable.
    pub fn hold(&self, name: &str, container_id: &str, by: By) -> Result<(), Error> {
        let _changes = self.lock();
        if store::get(&self.db, &self.root, name)?.is_none() {
            return Err(Error::NotFound(name.to_owned()));
        }
        let fate = match by {
            By::Container if !store::is_held_by_name(&self.db, name)? => Fate::Goes,
            By::Container | By::Name => Fate::Named,
        };
        store::hold(&self.db, name, container_id, fate)
    }

    /// Notes, before a container is removed, whether its anonymous volumes go with it.
    pub fn note_removal(&self, container_id: &str, with_anonymous: bool) -> Result<(), Error> {
        store::set_fate(&self.db, container_id, if with_anonymous { Fate::Goes } else { Fate::Stays })
    }

    /// The container is gone, or came to nothing. `with_anonymous`: with it go the anonymous volumes that nobody else holds,
    /// but for those that it was given by name. The first error is told when all has been tried.
    pub fn release(&self, container_id: &str, with_anonymous: bool) -> Result<(), Error> {
        let latest = if with_anonymous { Some(Fate::Stays) } else { None };
        self.let_go(container_id, latest)
    }

    /// Ends what a crash cut short: creates that came to nothing, and removals. `is_there` knows the containers.
    pub fn finish_removals(&self, is_there: impl Fn(&str) -> bool) -> Result<(), Error> {
        let gone = store::all_holders(&self.db)?.into_iter().filter(|holder| !is_there(holder));
        gone.map(|holder| self.let_go(&holder, Some(Fate::Goes))).fold(Ok(()), Result::and)
    }

    /// Drops the holds, and removes the anonymous volumes whose fate is `latest` at most.
    fn let_go(&self, container_id: &str, latest: Option<Fate>) -> Result<(), Error> {
        let going = store::drop_holds(&self.db, container_id, latest)?;
        let mut result = Ok(());
        for name in &going {
            let _changes = self.lock();
            // Somebody else may have come to hold it.
            if store::holders(&self.db, name)? == [container_id] {
                result = result.and(self.discard(name));
            }
        }
        if !going.is_empty() {
            store::drop_holds(&self.db, container_id, None)?;
        }
        result
    }
}
