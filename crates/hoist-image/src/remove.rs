//! `docker rmi`: which names go, when the image itself goes, and what is in the way; the rules and words are Docker's.

use std::collections::HashSet;

use hoist_api::reference::Reference;

use crate::{Digest, Error, Image, Store, digest, index, records};

/// A removed thing, in Docker's order (untagged first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    Untagged(String),
    /// A digest that went with the last tag of its repository.
    WentAlong(String),
    /// An image's id.
    Deleted(Digest),
    /// The chain id of a layer that went with its image.
    Layer(Digest),
}

/// What `rmi` needs to know from outside: who uses the image. `stopped`/`running` list container ids.
#[derive(Clone, Debug, Default)]
pub struct Users {
    pub stopped: Vec<String>,
    pub running: Vec<String>,
}

/// What a removal goes against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Nothing that keeps the image.
    No,
    /// What can be forced, but not a pin: somebody may put one on the image until the last moment.
    SparingPins,
    /// Whatever can be forced.
    Yes,
}

impl From<bool> for Force {
    fn from(force: bool) -> Force {
        if force { Force::Yes } else { Force::No }
    }
}

/// One removal: what was asked, and what has gone so far.
struct Removal<'a> {
    store: &'a Store,
    force: Force,
    prune: bool,
    users: &'a dyn Fn(&Image) -> Users,
    removed: Vec<Removed>,
}

/// Why an image stays.
struct Obstacle {
    hard: bool,
    used: bool,
    text: String,
}

impl Store {
    /// `docker rmi`, with Docker's rules and texts about several tags, children and containers that use it.
    pub fn remove(
        &self,
        name: &str,
        force: impl Into<Force>,
        no_prune: bool,
        users: &dyn Fn(&Image) -> Users,
    ) -> Result<Vec<Removed>, Error> {
        let _serial = self.shared.commit_lock();
        let mut removal = Removal { store: self, force: force.into(), prune: !no_prune, users, removed: Vec::new() };
        removal.run(name)?;
        Ok(removal.removed)
    }
}

impl Removal<'_> {
    fn run(&mut self, name: &str) -> Result<(), Error> {
        let image = self.store.get(name)?;
        let names = self.store.shared.index().references(&image.id);
        if !index::is_id_prefix(&image.id, name) {
            return self.by_name(name, &image, &names);
        }
        if is_single(&names) {
            // All names are of one repository: the id means them too, unless something else is in the way.
            if let Some(obstacle) = self.obstacle(&image, false) {
                return Err(conflict(&image.id, &obstacle));
            }
            self.drop_names(&image.id, &names, &[])?;
        }
        self.delete(&image.id, self.is_forced(), false)
    }

    fn is_forced(&self) -> bool {
        self.force != Force::No
    }

    fn by_name(&mut self, name: &str, image: &Image, names: &[Reference]) -> Result<(), Error> {
        if is_single(names) {
            if image.is_pinned && self.force != Force::Yes {
                return Err(Error::Conflict(format!(
                    "conflict: unable to remove repository reference {name:?} (must force) - its image {} is pinned",
                    digest::short(&image.id)
                )));
            }
            let users = if self.is_forced() { Users::default() } else { (self.users)(image) };
            if let Some(container) = users.running.iter().chain(&users.stopped).next() {
                return Err(Error::Conflict(format!(
                    "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its \
                     referenced image {}",
                    digest::short(container),
                    digest::short(&image.id)
                )));
            }
        }
        let reference = Reference::parse(name)?.with_default_tag();
        let key = index::lookup_key(&reference);
        let asked_for = names.iter().find(|n| n.to_string() == key).cloned().unwrap_or(reference);
        let mut rest: Vec<_> = names.iter().filter(|n| n.to_string() != key).cloned().collect();
        let mut along = Vec::new();
        let repository = asked_for.name();
        let has_tag = rest.iter().any(|n| n.digest.is_none() && n.name() == repository);
        if asked_for.digest.is_none() && !has_tag {
            // The last tag takes the digests of its repository along.
            (along, rest) = rest.into_iter().partition(|n| n.name() == repository);
        }
        self.drop_names(&image.id, &[asked_for], &along)?;
        if rest.is_empty() { self.delete(&image.id, self.is_forced(), true) } else { Ok(()) }
    }

    /// `along`: digests that go because the last tag of their repository does.
    fn drop_names(&mut self, id: &str, names: &[Reference], along: &[Reference]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let shared = &self.store.shared;
        let keys: Vec<String> = names.iter().chain(along).map(index::lookup_key).collect();
        shared.db.write_durable(|tx| keys.iter().try_for_each(|key| records::drop_name(tx, key)))?;
        let mut index = shared.index_mut();
        keys.iter().for_each(|key| index.drop_name(key));
        self.removed.extend(names.iter().map(|name| Removed::Untagged(name.familiar())));
        self.removed.extend(along.iter().map(|name| Removed::WentAlong(name.familiar())));
        tracing::debug!(image = %id, ?keys, "untagged");
        Ok(())
    }

    /// Removes the image and, where asked, the parents that nobody else needs. `quiet`: something was removed already,
    /// so an image that must stay is no failure.
    fn delete(&mut self, id: &str, force: bool, quiet: bool) -> Result<(), Error> {
        let (mut id, mut force, mut quiet) = (id.to_owned(), force, quiet);
        loop {
            let Some(image) = self.store.shared.index().by_id(&id) else { return Ok(()) };
            if let Some(obstacle) = self.obstacle(&image, !force) {
                let dangling = image.repo_tags.is_empty()
                    && image.repo_digests.is_empty()
                    && !self.store.shared.index().has_children(&id);
                if quiet && (!dangling || obstacle.used) {
                    return Ok(());
                }
                return Err(conflict(&id, &obstacle));
            }
            let parent = self.store.shared.index().parent(&id).map(str::to_owned);
            self.delete_one(&image)?;
            match parent {
                Some(parent) if self.prune => (id, force, quiet) = (parent, false, true),
                _ => return Ok(()),
            }
        }
    }

    fn delete_one(&mut self, image: &Image) -> Result<(), Error> {
        let shared = &self.store.shared;
        let names = shared.index().references(&image.id);
        let blobs = shared.db.write_durable(|tx| {
            let blobs = records::lonely_blobs(tx, &image.id)?;
            records::drop_image(tx, &image.id)?;
            Ok(blobs)
        })?;
        let unused = shared.index_mut().drop_image(&image.id);
        self.removed.extend(names.iter().map(|name| Removed::Untagged(name.familiar())));
        self.removed.push(Removed::Deleted(image.id.clone()));
        let kept: HashSet<String> =
            shared.index().diff_ids_in_use().flat_map(|diff_ids| digest::chain_ids(diff_ids)).collect();
        let chain = digest::chain_ids(&image.diff_ids).into_iter().rev().filter(|id| !kept.contains(id));
        self.removed.extend(chain.map(Removed::Layer));
        for blob in blobs {
            shared.disk.blobs.remove(&blob)?;
        }
        shared.sweep_locked(unused)
    }

    /// What keeps the image from being removed. Soft obstacles give way to force; names count as one only for
    /// `with_names`.
    fn obstacle(&self, image: &Image, soft: bool) -> Option<Obstacle> {
        if self.store.shared.index().has_children(&image.id) {
            return Some(Obstacle { hard: true, used: false, text: "image has dependent child images".to_owned() });
        }
        let users = (self.users)(image);
        if let Some(container) = users.running.first() {
            let text = format!("image is being used by running container {}", digest::short(container));
            return Some(Obstacle { hard: true, used: true, text });
        }
        if (soft || self.force != Force::Yes) && image.is_pinned {
            let text = "image is pinned".to_owned();
            return Some(Obstacle { hard: false, used: true, text });
        }
        if soft && !(image.repo_tags.is_empty() && image.repo_digests.is_empty()) {
            let text = "image is referenced in multiple repositories".to_owned();
            return Some(Obstacle { hard: false, used: false, text });
        }
        if (soft || !self.is_forced())
            && let Some(container) = users.stopped.first()
        {
            let text = format!("image is being used by stopped container {}", digest::short(container));
            return Some(Obstacle { hard: false, used: true, text });
        }
        None
    }
}

fn conflict(id: &str, obstacle: &Obstacle) -> Error {
    let how = if obstacle.hard { "cannot be forced" } else { "must be forced" };
    Error::Conflict(format!("conflict: unable to delete {} ({how}) - {}", digest::short(id), obstacle.text))
}

/// At most one tag, and every digest of the same repository as it.
fn is_single(names: &[Reference]) -> bool {
    if names.len() <= 1 {
        return true;
    }
    let tags: Vec<_> = names.iter().filter(|n| n.digest.is_none()).collect();
    let digests: HashSet<String> = names.iter().filter(|n| n.digest.is_some()).map(Reference::name).collect();
    let repository = tags.first().copied().unwrap_or(&names[0]).name();
    tags.len() <= 1 && digests.len() == 1 && digests.contains(&repository)
}

#[cfg(test)]
mod tests;
