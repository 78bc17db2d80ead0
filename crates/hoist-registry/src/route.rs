//! From a path to what is asked for. Names, tags and digests that get past here fit the spec's grammar: none can reach a file
//! that is not a blob.

use hoist_api::reference;
use hoist_image::blobs;
use percent_encoding::percent_decode_str;

use crate::error::Error;

/// What a path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/`
    Front,
    /// `/v2/`
    Base,
    /// `/v1/_ping`: Docker asks it before it searches.
    Ping,
    /// `/v1/search`
    Search,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags { name: String },
    /// `/v2/<name>/manifests/<tag-or-digest>`
    Manifest { name: String, reference: Reference },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { name: String, digest: String },
    /// `/v2/<name>/blobs/<digest>`
    Blob { name: String, digest: String },
    /// `/v2/<name>/blobs/uploads/`
    Uploads { name: String },
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload { name: String, id: String },
}

/// By what a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(String),
    Digest(String),
}

impl Reference {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Reference::Tag(text) | Reference::Digest(text) => text,
        }
    }
}

/// Reads a path as it came, percent-encoded.
pub(crate) fn parse(path: &str) -> Result<Route, Error> {
    match path {
        "/" => return Ok(Route::Front),
        "/v2" | "/v2/" => return Ok(Route::Base),
        "/v1/_ping" => return Ok(Route::Ping),
        "/v1/search" => return Ok(Route::Search),
        "/v2/_catalog" | "/v2/_catalog/" => return Ok(Route::Catalog),
        _ => {}
    }
    let encoded = path.strip_prefix("/v2/").ok_or_else(Error::page_not_found)?;
    let decoded = percent_decode_str(encoded).decode_utf8().map_err(|_| Error::page_not_found())?;
    in_repository(&decoded)
}

fn in_repository(path: &str) -> Result<Route, Error> {
    if let Some(name) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
        return Ok(Route::Uploads { name: repository(name)? });
    }
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Ok(Route::Tags { name: repository(name)? });
    }
    let (rest, last) = path.rsplit_once('/').ok_or_else(Error::page_not_found)?;
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        return Ok(Route::Upload { name: repository(name)?, id: upload_id(last)? });
    }
    if let Some(name) = rest.strip_suffix("/blobs") {
        return Ok(Route::Blob { name: repository(name)?, digest: digest(last)? });
    }
    if let Some(name) = rest.strip_suffix("/manifests") {
        return Ok(Route::Manifest { name: repository(name)?, reference: tag_or_digest(last)? });
    }
    if let Some(name) = rest.strip_suffix("/referrers") {
        return Ok(Route::Referrers { name: repository(name)?, digest: digest(last)? });
    }
    Err(Error::page_not_found())
}

/// A repository's name (distribution-spec "Pulling manifests").
pub(crate) fn repository(name: &str) -> Result<String, Error> {
    if reference::is_repository_path(name) { Ok(name.to_owned()) } else { Err(Error::name_invalid(name)) }
}

/// A digest of a supported algorithm.
pub(crate) fn digest(text: &str) -> Result<String, Error> {
    blobs::parse_digest(text).map(|_| text.to_owned()).map_err(Error::digest_invalid)
}

/// A tag.
pub(crate) fn tag(text: &str) -> Result<String, Error> {
    let bad = || Error::manifest_invalid(format!("{text:?} is neither a tag nor a digest"));
    reference::is_tag(text).then(|| text.to_owned()).ok_or_else(bad)
}

fn tag_or_digest(text: &str) -> Result<Reference, Error> {
    // No tag has a colon.
    if text.contains(':') { digest(text).map(Reference::Digest) } else { tag(text).map(Reference::Tag) }
}

/// Ids are ours: 32 hex digits in groups.
fn upload_id(text: &str) -> Result<String, Error> {
    let fits = text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if fits { Ok(text.to_owned()) } else { Err(Error::upload_unknown(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_endpoint_of_the_spec_is_found() {
        let name = || "a/b".to_owned();
        let id = "0123abcd-0123-4123-8123-0123456789ab".to_owned();
        let digest = || DIGEST.to_owned();
        for (path, expected) in [
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags { name: name() }),
            ("/v2/a/b/manifests/v1.0_x", Route::Manifest { name: name(), reference: Reference::Tag("v1.0_x".into()) }),
            (
                &format!("/v2/a/b/manifests/{DIGEST}"),
                Route::Manifest { name: name(), reference: Reference::Digest(digest()) },
            ),
            (
                &format!("/v2/a%2Fb/blobs/{}", DIGEST.replace(':', "%3A")),
                Route::Blob { name: name(), digest: digest() },
            ),
            (&format!("/v2/a/b/referrers/{DIGEST}"), Route::Referrers { name: name(), digest: digest() }),
            ("/v2/a/b/blobs/uploads/", Route::Uploads { name: name() }),
            (&format!("/v2/a/b/blobs/uploads/{id}"), Route::Upload { name: name(), id }),
            // A repository may be called as an endpoint is.
            ("/v2/blobs/uploads/tags/list", Route::Tags { name: "blobs/uploads".into() }),
        ] {
            assert_eq!(parse(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_name_gets_no_further() {
        for (path, code) in [
            ("/v2/../../etc/passwd/tags/list", "NAME_INVALID"),
            ("/v2/a/%2e%2e/b/tags/list", "NAME_INVALID"),
            ("/v2/A/tags/list", "NAME_INVALID"),
            ("/v2//tags/list", "NAME_INVALID"),
            ("/v2/a\0/tags/list", "NAME_INVALID"),
            (&format!("/v2/{}/tags/list", "a".repeat(256)), "NAME_INVALID"),
            ("/v2/a/blobs/sha256:..x", "DIGEST_INVALID"),
            ("/v2/a/blobs/sha256:../x", "UNSUPPORTED"),
            ("/v2/a/blobs/sha256:00", "DIGEST_INVALID"),
            ("/v2/a/manifests/.hidden", "MANIFEST_INVALID"),
            ("/v2/a/manifests/%2e%2e", "MANIFEST_INVALID"),
            ("/v2/a/manifests/sha256:x", "DIGEST_INVALID"),
            ("/v2/a/blobs/uploads/..", "BLOB_UPLOAD_UNKNOWN"),
            ("/v2/a", "UNSUPPORTED"),
            ("/etc/passwd", "UNSUPPORTED"),
        ] {
            assert_eq!(parse(path).unwrap_err().code, code, "{path}");
        }
    }
}
