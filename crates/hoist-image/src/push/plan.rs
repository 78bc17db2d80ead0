//! How one layer gets to the target: looked for in the cheapest order, nothing sent yet.

use std::sync::Arc;

use hoist_api::reference::Reference;

use super::{LayerFailure, Push};
use crate::Error;
use crate::distribution::{Question, ask};
use crate::manifest::Descriptor;
use crate::records::{self, LayerSource};
use crate::registry::{Access, Failure, Mount, Repository};

/// In place of a repository: the form that compressing the layer here gives.
pub(super) const MADE_HERE: &str = "";
/// So many forms of a layer are asked for before it is sent.
const FORMS_MAX: usize = 4;
/// So many repositories are tried for a form of a layer.
const REPOSITORIES_MAX: usize = 4;

/// What is to be done for a layer.
pub(super) struct Plan {
    pub(super) diff_id: String,
    pub(super) way: Way,
}

pub(super) enum Way {
    /// Nothing: clients fetch it from elsewhere.
    Foreign(Descriptor),
    There(Descriptor),
    Mounted(Descriptor, String),
    /// Its tar, as it is or compressed; the result must be this, if anything is given.
    Make {
        form: Form,
        wanted: Option<Descriptor>,
    },
    Copy {
        from: Arc<Repository>,
        wanted: Descriptor,
    },
}

/// How a layer's tar is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Gzip,
}

/// The way to have exactly the blob that a manifest names; none if there is none.
pub(super) async fn exactly(
    push: &Push,
    diff_id: String,
    wanted: Descriptor,
    homes: &[String],
) -> Result<Option<Plan>, LayerFailure> {
    let plan = |way: Way| Ok(Some(Plan { diff_id: diff_id.clone(), way }));
    if is_foreign(&wanted) {
        return plan(Way::Foreign(wanted));
    }
    if is_there(push, &wanted.digest).await? {
        return plan(Way::There(wanted));
    }
    let sources = records::sources(&push.shared.db, &diff_id).map_err(LayerFailure::Here)?;
    let of_blob = || sources.iter().filter(|source| source.digest == wanted.digest);
    let mut repositories: Vec<&str> = of_blob().map(|source| source.repository.as_str()).collect();
    repositories.extend(homes.iter().map(String::as_str));
    repositories.dedup();
    if let Some(from) = mounted(push, &wanted.digest, &repositories).await {
        return plan(Way::Mounted(wanted, from));
    }
    if of_blob().any(|source| source.repository == MADE_HERE) {
        return plan(Way::Make { form: Form::Gzip, wanted: Some(wanted) });
    }
    if wanted.digest == diff_id {
        return plan(Way::Make { form: Form::Plain, wanted: Some(wanted) });
    }
    for repository in repositories.iter().filter(|name| **name != push.repository).take(REPOSITORIES_MAX) {
        if let Some(from) = holder(push, repository, &wanted.digest).await {
            return plan(Way::Copy { from, wanted });
        }
    }
    Ok(None)
}

/// The way to have the layer in whatever gzip form: one that is there already, or one that is made.
pub(super) async fn anyhow_there(
    push: &Push,
    diff_id: String,
    foreign: Option<Descriptor>,
) -> Result<Plan, LayerFailure> {
    let plan = |way: Way| Plan { diff_id: diff_id.clone(), way };
    if let Some(foreign) = foreign {
        return Ok(plan(Way::Foreign(foreign)));
    }
    let sources = records::sources(&push.shared.db, &diff_id).map_err(LayerFailure::Here)?;
    let gzip: Vec<&LayerSource> = sources.iter().filter(|source| source.media_type.ends_with("gzip")).collect();
    let mut forms: Vec<&LayerSource> = Vec::new();
    for source in &gzip {
        if !forms.iter().any(|form| form.digest == source.digest) {
            forms.push(source);
        }
    }
    forms.truncate(FORMS_MAX);
    for form in &forms {
        if is_there(push, &form.digest).await? {
            return Ok(plan(Way::There(form.descriptor())));
        }
    }
    for form in &forms {
        let of_form = gzip.iter().filter(|source| source.digest == form.digest);
        let repositories: Vec<&str> = of_form.map(|source| source.repository.as_str()).collect();
        if let Some(from) = mounted(push, &form.digest, &repositories).await {
            return Ok(plan(Way::Mounted(form.descriptor(), from)));
        }
    }
    Ok(plan(Way::Make { form: Form::Gzip, wanted: None }))
}

/// Windows' base layers: their licence lets them come from their maker only.
pub(super) fn is_foreign(descriptor: &Descriptor) -> bool {
    let media_type = &descriptor.media_type;
    media_type.contains(".layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// A registry that does not let us look may still let us write, and says better what is wrong if not.
async fn is_there(push: &Push, digest: &str) -> Result<bool, LayerFailure> {
    match push.target.blob_bytes(digest).await {
        Ok(found) => Ok(found.is_some()),
        Err(failure) if failure.is_denied() => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// Takes the blob from another repository of the target's registry; which one it was.
async fn mounted(push: &Push, digest: &str, repositories: &[&str]) -> Option<String> {
    let own = Reference::parse(&push.repository).ok()?;
    let others = repositories.iter().filter_map(|name| Reference::parse(name).ok());
    let others = others.filter(|other| other.domain == own.domain && other.path != own.path);
    for other in others.take(REPOSITORIES_MAX) {
        match push.target.mount(digest, &other.path).await {
            Ok(Mount::Done) => return Some(other.path),
            Ok(Mount::Refused(upload)) => push.target.cancel_upload(upload).await,
            Err(failure) => {
                tracing::debug!(digest, from = %other.path, ?failure, "layer not mounted");
            }
        }
    }
    None
}

/// A repository at its own registry, if the blob is there for us.
async fn holder(push: &Push, repository: &str, digest: &str) -> Option<Arc<Repository>> {
    let reference = Reference::parse(repository).ok()?.with_digest(digest);
    let own = Reference::parse(&push.repository).ok()?;
    // What proves who we are is for the target's registry.
    let credentials = push.credentials.as_ref().filter(|_| reference.domain == own.domain);
    let asked = (&reference, Access::Pull, credentials);
    let told = |failure: Failure| Error::Other(failure.to_string());
    match ask(&push.shared.config(), asked, told, &Holds(digest), &push.progress).await {
        Ok(place) => Some(place),
        Err(e) => {
            tracing::debug!(repository, digest, error = %e, "layer is not there");
            None
        }
    }
}

/// Whether a blob is there.
struct Holds<'a>(&'a str);

impl Question for Holds<'_> {
    type Answer = Arc<Repository>;

    async fn put(&self, place: &Arc<Repository>) -> Result<Arc<Repository>, Error> {
        match place.blob_bytes(self.0).await {
            Ok(Some(_)) => Ok(place.clone()),
            Ok(None) => Err(Error::NotFound(format!("{} does not have {}", place.shown(), self.0))),
            Err(failure) => Err(Error::Other(failure.to_string())),
        }
    }
}

/// What is told about a way that needs no bytes.
pub(super) fn outcome(way: &Way) -> Option<(Descriptor, String)> {
    match way {
        Way::Foreign(descriptor) => Some((descriptor.clone(), "Skipped foreign layer".to_owned())),
        Way::There(descriptor) => Some((descriptor.clone(), "Layer already exists".to_owned())),
        Way::Mounted(descriptor, from) => Some((descriptor.clone(), format!("Mounted from {from}"))),
        Way::Make { .. } | Way::Copy { .. } => None,
    }
}
