//! Manifests at a registry, for those who make lists of them: read with what they are made for, and put there with the blobs
//! that they need. Nothing of it becomes an image here.

use std::sync::Arc;

use hoist_api::manifest::{DescribedPlatform, Descriptor, Mount as WantedMount};
use hoist_api::reference::Reference;

use crate::distribution::{Question, ask, media_type_of, unheard};
use crate::manifest::{self, Manifest};
use crate::registry::{Access, Failure, FetchedManifest, Mount, Repository};
use crate::{Config, Credentials, Error, Store, digest};

/// What the manifests of one list may come to, so that a list cannot make the engine grow.
const LIST_MAX_BYTES: usize = 32 << 20;

/// The manifests behind a reference.
#[derive(Clone, Debug)]
pub struct RemoteManifests {
    /// The reference leads to a list; these are its entries, in its order.
    pub is_list: bool,
    pub manifests: Vec<RemoteManifest>,
}

/// An image's manifest, verified.
#[derive(Clone, Debug)]
pub struct RemoteManifest {
    pub reference: Reference,
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// How a registry is spoken to for one request.
#[derive(Clone, Debug, Default)]
pub struct RemoteAccess {
    pub credentials: Option<Credentials>,
    /// By HTTP or without a valid certificate if need be, whatever the settings say.
    pub insecure: bool,
}

impl RemoteAccess {
    fn settings(&self, store: &Store, reference: &Reference) -> Arc<Config> {
        let config = store.config();
        if !self.insecure {
            return config;
        }
        let mut config = Config::clone(&config);
        config.insecure_registries.push(reference.domain.clone());
        Arc::new(config)
    }
}

impl Store {
    /// The manifest that a reference stands for, or those of the list that it stands for; mirrors are asked first.
    pub async fn remote_manifests(
        &self,
        reference: &Reference,
        access: &RemoteAccess,
    ) -> Result<RemoteManifests, Error> {
        let settings = access.settings(self, reference);
        let asked = (reference, Access::Pull, access.credentials.as_ref());
        ask(&settings, asked, reach_error, &Fetched(reference), &unheard()).await
    }

    /// Puts a manifest where the reference says, after the blobs that it needs from other repositories. Returns its digest.
    pub async fn put_remote_manifest(
        &self,
        reference: &Reference,
        (media_type, bytes): (&str, &[u8]),
        mounts: &[WantedMount],
        access: &RemoteAccess,
    ) -> Result<String, Error> {
        let found = digest::of_bytes(bytes);
        let target = reference.tag.as_deref().unwrap_or(&found);
        if let Some(wanted) = reference.digest.as_ref().filter(|wanted| **wanted != found) {
            let text = format!("internal digest mismatch for {reference}: expected {wanted}, got {found}");
            return Err(Error::Invalid(text));
        }
        manifest::parse(bytes, media_type)?;
        for mount in mounts {
            digest::hex_of(&mount.digest)?;
            Reference::parse(&format!("{}/{}", reference.domain, mount.from))?;
        }
        let settings = access.settings(self, reference);
        let asked = (reference, Access::Push, access.credentials.as_ref());
        let question = Sent { reference, target, media_type, bytes, mounts };
        ask(&settings, asked, reach_error, &question, &unheard()).await?;
        Ok(found)
    }
}

/// The manifests behind a name.
struct Fetched<'a>(&'a Reference);

impl Question for Fetched<'_> {
    type Answer = RemoteManifests;

    async fn put(&self, place: &Arc<Repository>) -> Result<RemoteManifests, Error> {
        fetch(place, self.0).await
    }
}

/// A manifest that is to be there, and what must be there before it.
struct Sent<'a> {
    reference: &'a Reference,
    /// Tag or digest.
    target: &'a str,
    media_type: &'a str,
    bytes: &'a [u8],
    mounts: &'a [WantedMount],
}

impl Question for Sent<'_> {
    type Answer = ();

    async fn put(&self, place: &Arc<Repository>) -> Result<(), Error> {
        for mount in self.mounts {
            bring(place, mount, self.reference).await?;
        }
        let sent = place.put_manifest(self.target, self.media_type, self.bytes).await;
        sent.map_err(|failure| Error::Other(format!("failed to put manifest {}: {failure}", self.reference)))
    }
}

/// In the words of Docker's client, which speaks to registries itself here.
fn reach_error(failure: Failure) -> Error {
    Error::Other(format!("failed to configure transport: error pinging v2 registry: {failure}"))
}

fn missing(reference: &Reference, failure: &Failure) -> Error {
    match failure {
        Failure::Refused(_) if failure.is_not_found() => Error::NotFound(format!("no such manifest: {reference}")),
        Failure::Refused(_) if failure.is_denied() => {
            Error::Unauthorized(format!("no such manifest: {reference}: {failure}"))
        }
        _ => Error::Other(format!("no such manifest: {reference}: {failure}")),
    }
}

async fn fetch(place: &Repository, reference: &Reference) -> Result<RemoteManifests, Error> {
    let wanted = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let fetched = place.manifest(wanted).await.map_err(|failure| missing(reference, &failure))?;
    let image = match manifest::parse(&fetched.bytes, &fetched.media_type)? {
        Manifest::Index(_) => {
            let manifests = entries(place, reference, &fetched).await?;
            return Ok(RemoteManifests { is_list: true, manifests });
        }
        Manifest::Image(image) => image,
    };
    let config = place.config(&image.config).await.map_err(|failure| failure.for_distribution())?;
    let invalid = |e| Error::Invalid(format!("invalid image config {}: {e}", image.config.digest));
    let platform: DescribedPlatform = hoist_api::decode::from_slice(&config).map_err(invalid)?;
    let media_type = media_type_of(&fetched, &Manifest::Image(image));
    let manifests = vec![described(reference.clone(), fetched, media_type, platform)];
    Ok(RemoteManifests { is_list: false, manifests })
}

/// Every manifest of a list, for the platform that the list says.
async fn entries(
    place: &Repository,
    reference: &Reference,
    list: &FetchedManifest,
) -> Result<Vec<RemoteManifest>, Error> {
    let (mut manifests, mut bytes) = (Vec::new(), 0);
    for entry in manifest::entries(&list.bytes)? {
        let name = Reference { digest: Some(entry.digest.clone()), ..reference.clone() };
        let fetched = place.manifest(&entry.digest).await.map_err(|failure| missing(&name, &failure))?;
        bytes += fetched.bytes.len();
        if bytes > LIST_MAX_BYTES {
            return Err(Error::Invalid(format!("the manifests of {reference} are larger than {LIST_MAX_BYTES} bytes")));
        }
        let parsed = manifest::parse(&fetched.bytes, &fetched.media_type)?;
        let media_type = media_type_of(&fetched, &parsed);
        if let Manifest::Index(_) = parsed {
            return Err(Error::Invalid(format!("unsupported manifest type: {media_type} in {reference}")));
        }
        manifests.push(described(name, fetched, media_type, entry.platform.unwrap_or_default()));
    }
    Ok(manifests)
}

fn described(
    reference: Reference,
    fetched: FetchedManifest,
    media_type: String,
    platform: DescribedPlatform,
) -> RemoteManifest {
    let FetchedManifest { digest, bytes, .. } = fetched;
    let size = bytes.len() as u64;
    let descriptor = Descriptor { media_type, digest, size, platform: Some(platform), ..Descriptor::default() };
    RemoteManifest { reference, descriptor, bytes }
}

/// Has a blob of another repository in this one.
async fn bring(place: &Repository, wanted: &WantedMount, target: &Reference) -> Result<(), Error> {
    let WantedMount { digest, from, optional } = wanted;
    let failed =
        |failure: Failure| Error::Other(format!("failed to mount blob {from}@{digest} to {target}: {failure}"));
    if place.blob_bytes(digest).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    match place.mount(digest, from).await.map_err(failed)? {
        Mount::Done => Ok(()),
        Mount::Refused(upload) => {
            place.cancel_upload(upload).await;
            if *optional { Ok(()) } else { Err(Error::Other(format!("error mounting {from}@{digest} to {target}"))) }
        }
    }
}
