//! Hoist's own: `GET` and `POST /hoist/manifests/{name}`, by which a client without a registry client makes manifest lists,
//! and `GET /hoist/images/{name}/changes`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_api::error::Error;
use hoist_api::manifest::{Fetched, FetchedManifest, Put, PutAnswer};
use hoist_api::reference::Reference;
use hoist_image::{RemoteAccess, RemoteManifest};

use super::push::credentials_of;
use super::{Answer, Call, answer, blocking};

fn target(call: &Call) -> Result<(Reference, RemoteAccess), Error> {
    let reference = Reference::parse(&call.name).map_err(|e| Error::invalid(e.to_string()))?.with_default_tag();
    Ok((reference, RemoteAccess { credentials: credentials_of(call), insecure: call.query.flag("insecure") }))
}

/// What a registry has under a name: a manifest, or those of a list. `insecure` lets go of TLS.
pub(in crate::docker) async fn manifests(call: Call) -> Result<Answer, Error> {
    let (reference, access) = target(&call)?;
    let found = call.engine.images.remote_manifests(&reference, &access).await?;
    let told = |manifest: RemoteManifest| FetchedManifest {
        reference: manifest.reference.to_string(),
        descriptor: manifest.descriptor,
        raw: STANDARD.encode(&manifest.bytes),
    };
    answer::ok(&Fetched { is_list: found.is_list, manifests: found.manifests.into_iter().map(told).collect() })
}

/// Puts a manifest under a tag or its digest.
pub(in crate::docker) async fn put_manifest(mut call: Call) -> Result<Answer, Error> {
    let Put { mounts, media_type, raw } = call.json().await?;
    let (reference, access) = target(&call)?;
    let bytes = STANDARD.decode(&raw).map_err(|e| Error::invalid(format!("Raw is not base64: {e}")))?;
    let document = (media_type.as_str(), bytes.as_slice());
    let digest = call.engine.images.put_remote_manifest(&reference, document, &mounts, &access).await?;
    answer::ok(&PutAnswer { digest })
}

/// What an image has otherwise than the one that `against` names, or its uppermost layer than those below.
pub(in crate::docker) async fn changes(call: Call) -> Result<Answer, Error> {
    let (images, name) = (call.engine.images.clone(), call.name.clone());
    let against = Some(call.query.get("against").to_owned()).filter(|name| !name.is_empty());
    answer::ok(&blocking(move || images.changes(&name, against.as_deref())).await?)
}
