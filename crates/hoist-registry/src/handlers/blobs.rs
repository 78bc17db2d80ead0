//! Blobs: whole, in part, their size, and gone.

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};

use super::Call;
use crate::answer::{self, Answer, CONTENT_DIGEST};
use crate::error::Error;
use crate::ranges::{self, Wanted};

/// Headers of every answer about a blob.
fn describe(mut answer: Answer, digest: &str, length: u64) -> Answer {
    for (name, value) in [
        (CONTENT_TYPE, "application/octet-stream"),
        (ACCEPT_RANGES, "bytes"),
        (CACHE_CONTROL, "max-age=31536000, immutable"),
        (CONTENT_DIGEST, digest),
        (ETAG, &format!("\"{digest}\"")),
        (CONTENT_LENGTH, &length.to_string()),
    ] {
        answer::set(&mut answer, name, value);
    }
    answer
}

pub(super) async fn head(call: &Call, name: String, digest: String) -> Result<Answer, Error> {
    let wanted = digest.clone();
    let size = call.registry.store.run(move |store| store.blob_size(&name, &wanted)).await?;
    Ok(describe(answer::status(StatusCode::OK), &digest, size))
}

pub(super) async fn get(call: &Call, name: String, digest: String) -> Result<Answer, Error> {
    let wanted = digest.clone();
    let (file, size) = call.registry.store.run(move |store| store.open_blob(&name, &wanted)).await?;
    let tag = format!("\"{digest}\"");
    if call.header(&IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        let mut answer = answer::status(StatusCode::NOT_MODIFIED);
        answer::set(&mut answer, ETAG, &tag);
        return Ok(answer);
    }
    // A range is about the blob that the client has a part of.
    let is_same = call.header(&IF_RANGE).is_none_or(|known| known == tag);
    let range = call.header(&RANGE).filter(|_| is_same);
    let (status, offset, length) = match ranges::wanted(range, size) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part { offset, length } => (StatusCode::PARTIAL_CONTENT, offset, length),
        Wanted::Unsatisfiable => {
            let whole = HeaderValue::from_str(&format!("bytes */{size}"));
            let error = Error::range_not_satisfiable(size);
            return Err(match whole {
                Ok(whole) => error.with(CONTENT_RANGE, whole),
                Err(_) => error,
            });
        }
    };
    let mut answer = describe(answer::status(status), &digest, length);
    if status == StatusCode::PARTIAL_CONTENT {
        answer::set(&mut answer, CONTENT_RANGE, &format!("bytes {offset}-{}/{size}", offset + length - 1));
    }
    let body = answer::part_of_file(file, offset, length);
    *answer.body_mut() = body.map_err(|e| Error::internal(format!("seek in blob {digest}: {e}")))?;
    Ok(answer)
}

pub(super) async fn delete(call: &Call, name: String, digest: String) -> Result<Answer, Error> {
    call.deletes()?;
    call.registry.store.run(move |store| store.delete_blob(&name, &digest)).await?;
    Ok(answer::status(StatusCode::ACCEPTED))
}

impl Call {
    /// Refuses where nothing may be deleted.
    pub(super) fn deletes(&self) -> Result<(), Error> {
        if self.registry.policy.no_delete {
            return Err(Error::unsupported("deleting is turned off on this registry"));
        }
        Ok(())
    }
}
