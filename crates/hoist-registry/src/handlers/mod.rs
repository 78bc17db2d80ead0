//! What each endpoint does: decode, one call, encode. What is legal beyond the form of a request is decided by the store.

mod blobs;
mod lists;
mod manifests;
mod search;
mod uploads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};

use crate::answer::{self, Answer};
use crate::error::Error;
use crate::flags::Policy;
use crate::route::{self, Route};
use crate::store::Store;
use crate::users::Users;

/// What all requests share.
pub(crate) struct Registry {
    pub(crate) store: Arc<Store>,
    pub(crate) users: Option<Arc<Users>>,
    pub(crate) policy: Policy,
    /// In this time a body must bring [`PACE_BYTES`], or end.
    pub(crate) pace: Duration,
}

/// Slower than this, a client holds a connection for nothing.
const PACE_BYTES: u64 = 1024;

/// One request with its query decoded.
struct Call {
    registry: Arc<Registry>,
    query: Vec<(String, String)>,
    request: Request<Incoming>,
}

/// Answers a request.
pub(crate) async fn respond(registry: Arc<Registry>, request: Request<Incoming>) -> Answer {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = match handle(registry, request).await {
        Ok(answer) => answer,
        Err(error) => answer::error(error),
    };
    if method == Method::HEAD {
        // The headers stay, the length among them.
        *answer.body_mut() = answer::empty();
    }
    answer::common_headers(&mut answer);
    let (status, elapsed_us) = (answer.status().as_u16(), started.elapsed().as_micros());
    tracing::debug!(%method, path, status, elapsed_us, "request");
    answer
}

async fn handle(registry: Arc<Registry>, request: Request<Incoming>) -> Result<Answer, Error> {
    let method = request.method().clone();
    let path = request.uri().path();
    // Before anything is told about what a path means.
    if path != "/"
        && let Some(users) = &registry.users
    {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let challenge = HeaderValue::from_static("Basic realm=\"hoist registry\", charset=\"UTF-8\"");
        users.admit(header).await.map_err(|e| if e.status == 401 { e.with(WWW_AUTHENTICATE, challenge) } else { e })?;
    }
    let route = route::parse(path)?;
    let changes = !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && registry.policy.read_only {
        return Err(Error::unsupported("this registry is read-only"));
    }
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    dispatch(&method, route, Call { registry, query, request }).await
}

async fn dispatch(method: &Method, route: Route, mut call: Call) -> Result<Answer, Error> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match route {
        Route::Front if reads => Ok(answer::bytes("text/plain; charset=utf-8", FRONT)),
        Route::Base if reads => Ok(answer::bytes("application/json", "{}")),
        Route::Ping if reads => Ok(search::ping()),
        Route::Search if reads => search::search(&call).await,
        Route::Catalog if reads => lists::catalog(&call).await,
        Route::Tags { name } if reads => lists::tags(&call, name).await,
        Route::Referrers { name, digest } if reads => lists::referrers(&call, name, digest).await,
        Route::Manifest { name, reference } => match *method {
            Method::GET | Method::HEAD => manifests::get(&call, name, reference).await,
            Method::PUT => manifests::put(&mut call, name, reference).await,
            Method::DELETE => manifests::delete(&call, name, reference).await,
            _ => Err(Error::method_not_allowed()),
        },
        Route::Blob { name, digest } => match *method {
            Method::GET => blobs::get(&call, name, digest).await,
            Method::HEAD => blobs::head(&call, name, digest).await,
            Method::DELETE => blobs::delete(&call, name, digest).await,
            _ => Err(Error::method_not_allowed()),
        },
        Route::Uploads { name } if method == Method::POST => uploads::post(&mut call, name).await,
        Route::Upload { name, id } => match *method {
            Method::GET | Method::HEAD => uploads::status(&call, name, id).await,
            Method::PATCH => uploads::patch(&mut call, name, id).await,
            Method::PUT => uploads::put(&mut call, name, id).await,
            Method::DELETE => uploads::cancel(&call, name, id).await,
            _ => Err(Error::method_not_allowed()),
        },
        _ => Err(Error::method_not_allowed()),
    }
}

const FRONT: &str = "hoist registry\n\nPush:   docker push HOST:PORT/name:tag\nPull:   docker pull HOST:PORT/name:tag\n\
                     Search: docker search HOST:PORT/word\nNames:  /v2/_catalog, /v2/<name>/tags/list\n";

impl Call {
    /// The first value of a query parameter.
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a query parameter.
    fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number; one that is not given is `default`, one that is none an error.
    fn number(&self, name: &str, default: u32) -> Result<u32, Error> {
        match self.query(name) {
            None | Some("") => Ok(default),
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(text.parse().unwrap_or(u32::MAX)),
            Some(text) => Err(Error::bad_query(format!("{name}={text}: a number is expected"))),
        }
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.request.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// What the body says that it brings.
    fn length(&self) -> Option<u64> {
        self.request.body().size_hint().exact()
    }

    /// The next bytes of the body; none at its end. `pace` bounds how long they may take.
    async fn next_part(&mut self, pace: &mut Pace) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = tokio::time::timeout(pace.left(), self.request.body_mut().frame()).await;
            let Some(frame) = frame.map_err(|_| Error::too_slow())? else { return Ok(None) };
            let frame = frame.map_err(|e| Error::body_broken(&e))?;
            // What is not data is a trailer: no word of ours.
            if let Ok(part) = frame.into_data() {
                pace.came(part.len() as u64);
                return Ok(Some(part));
            }
        }
    }

    /// The whole body; one of more than `max` bytes is an error.
    async fn body(&mut self, max_bytes: usize) -> Result<Vec<u8>, Error> {
        let too_large = || Error::manifest_too_large(max_bytes);
        if self.length().is_some_and(|length| length > max_bytes as u64) {
            return Err(too_large());
        }
        let mut pace = Pace::new(self.registry.pace);
        let mut body = Vec::new();
        while let Some(part) = self.next_part(&mut pace).await? {
            if body.len() + part.len() > max_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }
}

/// Sees that a body comes at some speed.
struct Pace {
    window: Duration,
    ends: Instant,
    bytes: u64,
}

impl Pace {
    fn new(window: Duration) -> Pace {
        Pace { window, ends: Instant::now() + window, bytes: 0 }
    }

    fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= PACE_BYTES {
            *self = Pace::new(self.window);
        }
    }
}

/// `Location`, relative: whatever stands before the registry stays there.
fn at(mut answer: Answer, location: &str) -> Answer {
    answer::set(&mut answer, hyper::header::LOCATION, location);
    answer
}

/// 201 with where it is and its digest.
fn created(location: &str, digest: &str) -> Answer {
    let mut answer = at(answer::status(StatusCode::CREATED), location);
    answer::set(&mut answer, answer::CONTENT_DIGEST, digest);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_to_come_at_some_speed() {
        let mut pace = Pace::new(Duration::from_secs(60));
        let ends = pace.ends;
        pace.came(PACE_BYTES - 1);
        assert_eq!(pace.ends, ends, "a trickle does not buy time");
        pace.came(1);
        assert!(pace.ends > ends && pace.bytes == 0);
    }
}
