//! What is answered when something is not done: the error codes of the distribution-spec, each with its status.

use std::io;
use std::path::Path;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

/// An answer that says no.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) status: StatusCode,
    /// distribution-spec "Error Codes"; `UNKNOWN` for what is wrong here.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What only the log is told.
    pub(crate) cause: Option<String>,
}

impl Error {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Error {
        Error { status, code, message: message.into(), headers: Vec::new(), cause: None }
    }

    /// With a header on the answer.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Error {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn page_not_found() -> Error {
        Error::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint")
    }

    pub(crate) fn method_not_allowed() -> Error {
        Error::unsupported("the endpoint does not have this method")
    }

    /// 405: the spec's answer to what this registry is told not to do.
    pub(crate) fn unsupported(message: impl Into<String>) -> Error {
        Error::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    /// 400 for a query parameter that cannot be.
    pub(crate) fn bad_query(message: impl Into<String>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Error {
        Error::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    pub(crate) fn name_invalid(name: &str) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "NAME_INVALID", format!("invalid repository name {name:?}"))
    }

    pub(crate) fn name_unknown(name: &str) -> Error {
        Error::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("repository {name} is not known to this registry"))
    }

    pub(crate) fn blob_unknown(digest: &str) -> Error {
        Error::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("blob {digest} is not in this repository"))
    }

    pub(crate) fn manifest_unknown(reference: &str) -> Error {
        let message = format!("manifest {reference} is not in this repository");
        Error::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    pub(crate) fn manifest_invalid(message: impl std::fmt::Display) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", format!("invalid manifest: {message}"))
    }

    pub(crate) fn manifest_too_large(max_bytes: usize) -> Error {
        let message = format!("the manifest is larger than {max_bytes} bytes");
        Error::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
    }

    pub(crate) fn manifest_blob_unknown(digest: &str) -> Error {
        let message = format!("the manifest names {digest}, which is not in this repository: push it first");
        Error::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message)
    }

    pub(crate) fn digest_invalid(message: impl std::fmt::Display) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message.to_string())
    }

    pub(crate) fn size_invalid(message: impl Into<String>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message)
    }

    pub(crate) fn upload_unknown(id: &str) -> Error {
        let message = format!("upload {id} is not known to this registry: it ended, expired or never was");
        Error::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    /// 409: another request writes to the same upload.
    pub(crate) fn upload_busy(id: &str) -> Error {
        let message = format!("another request is writing to upload {id}");
        Error::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", message)
    }

    /// 416: a chunk that does not begin where the last one ended.
    pub(crate) fn chunk_out_of_order(message: impl Into<String>) -> Error {
        Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
    }

    /// 416: a part of a blob that it does not have.
    pub(crate) fn range_not_satisfiable(size: u64) -> Error {
        let message = format!("the range lies outside of the blob's {size} bytes");
        Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message)
    }

    /// 408: the request's body came too slowly.
    pub(crate) fn too_slow() -> Error {
        Error::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", "the body came too slowly")
    }

    /// The body broke off; most likely nobody is there to read this.
    pub(crate) fn body_broken(source: &dyn std::fmt::Display) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", format!("the body broke off: {source}"))
    }

    /// Something is wrong here; the log gets the reason, the client none of our paths.
    pub(crate) fn internal(cause: impl Into<String>) -> Error {
        let text = "something went wrong in the registry; its log says what";
        let mut error = Error::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", text);
        error.cause = Some(cause.into());
        error
    }

    /// An I/O failure here, naming what was done to which path; a full disk is told to the client.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| {
            let mut error = Error::internal(format!("{action} {}: {source}", path.display()));
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                error.status = StatusCode::INSUFFICIENT_STORAGE;
                error.message = "the registry's disk is full".to_owned();
            }
            error
        }
    }
}

impl From<hoist_db::Error> for Error {
    fn from(source: hoist_db::Error) -> Error {
        Error::internal(source.to_string())
    }
}

/// What the blob directory says is about what is here; digests of clients are checked before they get there.
impl From<hoist_image::Error> for Error {
    fn from(source: hoist_image::Error) -> Error {
        Error::internal(source.to_string())
    }
}
