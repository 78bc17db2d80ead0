//! Manifests by tag and digest.

use hoist_image::blobs::{self, Algorithm};
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH};

use super::{Call, created};
use crate::answer::{self, Answer, CONTENT_DIGEST};
use crate::error::Error;
use crate::manifest::{self, MANIFEST_MAX_BYTES};
use crate::route::{self, Reference};
use crate::store::{self, Push};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags that one push by digest may put (the spec wants ten at least).
const TAGS_MAX: usize = 100;

pub(super) async fn get(call: &Call, name: String, reference: Reference) -> Result<Answer, Error> {
    let with_body = call.request.method() == hyper::Method::GET;
    let found = call.registry.store.run(move |store| {
        let found = store.manifest(&name, &reference)?;
        let bytes = if with_body { store.manifest_bytes(&found.digest)? } else { Vec::new() };
        Ok((found, bytes))
    });
    let (found, bytes) = found.await?;
    let tag = format!("\"{}\"", found.digest);
    let is_known = call.header(&IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
    let mut answer = if is_known { answer::status(StatusCode::NOT_MODIFIED) } else { answer::bytes("", bytes) };
    if !is_known {
        answer::set(&mut answer, CONTENT_TYPE, &found.media_type);
        answer::set(&mut answer, CONTENT_LENGTH, &found.size_bytes.to_string());
    }
    answer::set(&mut answer, CONTENT_DIGEST, &found.digest);
    answer::set(&mut answer, ETAG, &tag);
    Ok(answer)
}

pub(super) async fn put(call: &mut Call, name: String, reference: Reference) -> Result<Answer, Error> {
    let bytes = call.body(MANIFEST_MAX_BYTES).await?;
    let manifest = manifest::parse(&bytes, call.header(&CONTENT_TYPE).unwrap_or_default())?;
    let mut tags = call.queries("tag").map(route::tag).collect::<Result<Vec<_>, _>>()?;
    let digest = match &reference {
        Reference::Tag(_) if !tags.is_empty() => {
            return Err(Error::bad_query("tag= belongs to a push by digest"));
        }
        Reference::Tag(tag) => {
            tags.push(tag.clone());
            store::digest_of(Algorithm::Sha256, &bytes)
        }
        Reference::Digest(digest) => {
            let (algorithm, _) = blobs::parse_digest(digest).map_err(Error::digest_invalid)?;
            let found = store::digest_of(algorithm, &bytes);
            if found != *digest {
                return Err(Error::digest_invalid(format!("the manifest has digest {found}, not {digest}")));
            }
            found
        }
    };
    if tags.len() > TAGS_MAX {
        return Err(Error::bad_query(format!("more than {TAGS_MAX} tags in one request")));
    }
    let (repository, pushed, put_tags) = (name.clone(), digest.clone(), tags.clone());
    let subject = manifest.subject.clone();
    let put = call.registry.store.run(move |store| {
        let (repository, digest, bytes) = (repository.as_str(), pushed.as_str(), bytes.as_slice());
        store.put_manifest(&Push { repository, digest, bytes, manifest: &manifest, tags: &put_tags })
    });
    put.await?;
    let mut answer = created(&format!("/v2/{name}/manifests/{}", reference.as_str()), &digest);
    if let Some(subject) = subject {
        answer::set(&mut answer, SUBJECT, &subject);
    }
    if matches!(reference, Reference::Digest(_)) && !tags.is_empty() {
        answer::set(&mut answer, TAG, &tags.join(", "));
    }
    Ok(answer)
}

pub(super) async fn delete(call: &Call, name: String, reference: Reference) -> Result<Answer, Error> {
    call.deletes()?;
    let deleted = call.registry.store.run(move |store| match &reference {
        Reference::Tag(tag) => store.delete_tag(&name, tag),
        Reference::Digest(digest) => store.delete_manifest(&name, digest),
    });
    deleted.await?;
    Ok(answer::status(StatusCode::ACCEPTED))
}
