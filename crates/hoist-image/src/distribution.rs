//! What a registry says about an image that need not be here: `GET /distribution/{name}/json` and `POST /auth`.

use std::sync::Arc;

use hoist_api::manifest::DescribedPlatform;
use hoist_api::reference::Reference;

use crate::manifest::{self, MEDIA_OCI_INDEX, MEDIA_OCI_MANIFEST, Manifest};
use crate::registry::{self, Access, Failure, FetchedManifest, Repository};
use crate::{Config, Credentials, Error, ProgressSink, Store};

/// An image at its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    pub media_type: String,
    pub digest: String,
    pub size_bytes: u64,
    pub platforms: Vec<DescribedPlatform>,
}

impl Store {
    /// Asks the registry what a reference stands for, mirrors first.
    pub async fn distribution(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Distribution, Error> {
        let reference = reference.clone().with_default_tag();
        let asked = (&reference, Access::Pull, credentials);
        ask(&self.config(), asked, Failure::for_distribution, &Described(&reference), &unheard()).await
    }

    /// `docker login`: returns the identity token, "" if the registry gives none.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<String, Error> {
        registry::login(server, credentials, &self.config()).await
    }
}

/// What is asked of a registry.
pub(crate) trait Question: Sync {
    type Answer: Send;

    /// Asks it of one place, which has answered before.
    fn put(&self, place: &Arc<Repository>) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}

/// What a reference stands for.
struct Described<'a>(&'a Reference);

impl Question for Described<'_> {
    type Answer = Distribution;

    async fn put(&self, place: &Arc<Repository>) -> Result<Distribution, Error> {
        describe(place, self.0).await
    }
}

/// Nobody hears what goes on.
pub(crate) fn unheard() -> ProgressSink {
    Arc::new(|_| {})
}

/// Asks the places of a reference, mirrors first, until one that is no mirror has answered; `told` says how it is put that
/// there is none to be reached. `progress` hears of pauses.
pub(crate) async fn ask<Q: Question>(
    settings: &Config,
    (reference, access, credentials): (&Reference, Access, Option<&Credentials>),
    told: fn(Failure) -> Error,
    question: &Q,
    progress: &ProgressSink,
) -> Result<Q::Answer, Error> {
    let mut last = Error::Other(format!("no registry for {reference}"));
    for place in registry::places(reference, access, settings, credentials, progress).await? {
        let place = Arc::new(place);
        // One that may not say what a tag stands for is not asked.
        if access == Access::Pull && !place.resolves() && reference.digest.is_none() {
            continue;
        }
        if let Err(failure) = place.ping().await {
            last = told(failure);
            continue;
        }
        match question.put(&place).await {
            Err(e) if place.is_mirror() => last = e,
            other => return other,
        }
    }
    Err(last)
}

async fn describe(place: &Repository, reference: &Reference) -> Result<Distribution, Error> {
    let wanted = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    // Asked without its body first, as registries count what they send.
    let digest = place.tag_digest(wanted).await.map_err(|failure| failure.for_distribution())?;
    let fetched =
        place.manifest(digest.as_deref().unwrap_or(wanted)).await.map_err(|failure| failure.for_distribution())?;
    let parsed = manifest::parse(&fetched.bytes, &fetched.media_type)?;
    let media_type = media_type_of(&fetched, &parsed);
    let platforms = match parsed {
        Manifest::Index(entries) => entries.into_iter().filter_map(|entry| Some(*entry.platform?)).collect(),
        Manifest::Image(image) => {
            let config = place.config(&image.config).await.map_err(|failure| failure.for_distribution())?;
            // An artifact has no platform; what it has instead of a config is no error here.
            let described = hoist_api::decode::from_slice::<DescribedPlatform>(&config).ok();
            described
                .into_iter()
                .filter(|platform| !platform.os.is_empty() || !platform.architecture.is_empty())
                .collect()
        }
    };
    Ok(Distribution { media_type, digest: fetched.digest, size_bytes: fetched.bytes.len() as u64, platforms })
}

/// What a manifest is, by the registry or by itself.
pub(crate) fn media_type_of(fetched: &FetchedManifest, parsed: &Manifest) -> String {
    match parsed {
        _ if !fetched.media_type.is_empty() => fetched.media_type.clone(),
        Manifest::Image(_) => MEDIA_OCI_MANIFEST.to_owned(),
        Manifest::Index(_) => MEDIA_OCI_INDEX.to_owned(),
    }
}
