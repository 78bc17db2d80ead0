//! One repository at one registry: requests with their authentication, redirects and retries.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_api::reference::Reference;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, LOCATION, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};

use super::auth::{self, Challenge};
use super::endpoint::{self, Endpoint, Insecure, Origin};
use super::error::{ApiError, Failure};
use super::transport::{Outgoing, Transport, document};
use crate::{Config, Credentials, Error};

const REDIRECTS_MAX: usize = 10;
const ERROR_BODY_MAX_BYTES: u64 = 64 * 1024;
/// Docker's default of `max-download-attempts`.
const ATTEMPTS: u32 = 5;

/// A repository at the place it is read from.
pub(crate) struct Repository {
    transport: Arc<Transport>,
    endpoint: Endpoint,
    path: String,
    credentials: Option<Credentials>,
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<String, String>>,
    attempts: u32,
}

/// The places a reference may be pulled from, best first.
pub(crate) async fn places(
    reference: &Reference,
    config: &Config,
    credentials: Option<&Credentials>,
) -> Result<Vec<Repository>, Error> {
    let transport = Arc::new(Transport::new());
    let insecure = is_insecure(&reference.domain, config, &transport).await;
    let endpoints = endpoint::endpoints(&reference.domain, insecure, &config.registry_mirrors)?;
    let place = |endpoint: Endpoint| Repository {
        transport: transport.clone(),
        path: reference.path.clone(),
        credentials: credentials.filter(|_| !endpoint.mirror).cloned(),
        challenge: Mutex::default(),
        tokens: Mutex::default(),
        attempts: config.max_download_attempts.unwrap_or(ATTEMPTS),
        endpoint,
    };
    Ok(endpoints.into_iter().map(place).collect())
}

async fn is_insecure(domain: &str, config: &Config, transport: &Transport) -> bool {
    let insecure = Insecure::new(&config.insecure_registries);
    if insecure.by_name(domain) {
        return true;
    }
    if let Some(address) = endpoint::literal_address(domain) {
        return insecure.has_address(address);
    }
    if !insecure.has_own_networks() {
        return false;
    }
    let Ok(origin) = Origin::parse(true, domain) else { return false };
    let addresses = transport.lookup(&origin.host).await.unwrap_or_default();
    addresses.iter().map(|address| address.ip()).any(|address: IpAddr| insecure.has_address(address))
}

impl Repository {
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn is_mirror(&self) -> bool {
        self.endpoint.mirror
    }

    pub(crate) fn shown(&self) -> String {
        self.endpoint.origin.to_string()
    }

    /// Finds out whether a registry answers here and how it wants to be asked.
    pub(crate) async fn ping(&self) -> Result<(), Failure> {
        let outgoing = self.outgoing(Method::GET, format!("{}/v2/", self.endpoint.prefix), &[]);
        let answer = self.send(&outgoing).await?;
        self.learn_challenge(answer.headers());
        Ok(())
    }

    /// `GET` or `HEAD` of something below `/v2/<name>/`, with retries; the answer's status is a success.
    pub(super) async fn request(
        &self,
        method: Method,
        what: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let mut attempt = 0;
        loop {
            let failure = match self.request_once(method.clone(), what, headers).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            attempt += 1;
            if !failure.is_transient() || attempt >= self.attempts {
                return Err(failure);
            }
            tracing::debug!(what, ?failure, attempt, "registry request is tried again");
            tokio::time::sleep(back_off(attempt)).await;
        }
    }

    pub(super) async fn request_once(
        &self,
        method: Method,
        what: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let path = format!("{}/v2/{}/{what}", self.endpoint.prefix, self.path);
        self.request_path(method, &path, headers).await
    }

    /// The same for a path the registry itself named.
    pub(super) async fn request_path(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let outgoing = self.outgoing(method, path.to_owned(), headers);
        let shown = shown(&outgoing);
        let authorization = self.authorization(&shown).await?;
        let answer = self.follow(outgoing.clone(), authorization.clone()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return success(answer).await;
        }
        // A token may be too old or too narrow: ask for the scope that this very answer wants, once.
        if !self.learn_challenge(answer.headers()) {
            return success(answer).await;
        }
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match self.authorization(&shown).await? {
            Some(fresh) if authorization.as_ref() != Some(&fresh) => {
                success(self.follow(outgoing, Some(fresh)).await?).await
            }
            _ => success(answer).await,
        }
    }

    fn outgoing(&self, method: Method, path: String, headers: &[(HeaderName, String)]) -> Outgoing {
        let (origin, insecure) = (self.endpoint.origin.clone(), self.endpoint.insecure);
        Outgoing { method, origin, path, headers: headers.to_vec(), body: None, insecure }
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Response<Incoming>, Failure> {
        let answer = self.transport.send(outgoing).await;
        answer.map_err(|e| Failure::Unreachable(format!("{}: {e}", shown(outgoing))))
    }

    /// Sends and follows redirects. What proves who we are stays with the origin it is meant for.
    async fn follow(
        &self,
        mut outgoing: Outgoing,
        authorization: Option<String>,
    ) -> Result<Response<Incoming>, Failure> {
        let home = outgoing.origin.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = outgoing.clone();
            if let Some(value) = authorization.as_ref().filter(|_| outgoing.origin == home) {
                request.headers.push((AUTHORIZATION, value.clone()));
            }
            let answer = self.send(&request).await?;
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let broken = |text: &str| Failure::Broken(format!("{}: {text}", shown(&outgoing)));
            let location = location.ok_or_else(|| broken("redirect without a place to go"))?;
            let (origin, path) = if location.starts_with('/') && !location.starts_with("//") {
                (outgoing.origin.clone(), location.to_owned())
            } else {
                Origin::of_url(location).map_err(|e| broken(&format!("redirect to an {e}")))?
            };
            if outgoing.origin.secure && !origin.secure {
                return Err(broken("redirect from https to http"));
            }
            outgoing.insecure = outgoing.insecure && origin.host == home.host;
            (outgoing.origin, outgoing.path) = (origin, path);
        }
        Err(Failure::Broken(format!("{}: stopped after {REDIRECTS_MAX} redirects", shown(&outgoing))))
    }

    /// Takes note of what an answer asks for; whether it asks for anything.
    fn learn_challenge(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = auth::challenge(values) else { return false };
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
        true
    }

    async fn authorization(&self, shown: &str) -> Result<Option<String>, Failure> {
        let challenge = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let given = self.credentials.as_ref();
        match challenge {
            None => Ok(None),
            Some(_) if given.is_some_and(|c| !c.registry_token.is_empty()) => {
                Ok(given.map(|c| format!("Bearer {}", c.registry_token)))
            }
            Some(Challenge::Basic) => match given.and_then(auth::basic) {
                Some(value) => Ok(Some(value)),
                None => Err(Failure::Broken(format!("{shown}: no basic auth credentials"))),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = if scope.is_empty() { format!("repository:{}:pull", self.path) } else { scope };
                self.token(&realm, &service, &scope, shown).await.map(Some)
            }
        }
    }

    async fn token(&self, realm: &str, service: &str, scope: &str, shown: &str) -> Result<String, Failure> {
        let key = format!("{realm} {service} {scope}");
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let registry = (&self.endpoint.origin, self.endpoint.insecure);
        let token = auth::token(&self.transport, (realm, service), scope, self.credentials.as_ref(), registry).await;
        let value = token.map(|t| format!("Bearer {t}")).map_err(|e| Failure::Unreachable(format!("{shown}: {e}")))?;
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value.clone());
        Ok(value)
    }
}

async fn success(answer: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = document(answer.into_body(), ERROR_BODY_MAX_BYTES).await.unwrap_or_default();
    Err(Failure::Refused(ApiError::new(status, &body)))
}

/// `Get "https://…"`
fn shown(outgoing: &Outgoing) -> String {
    let method = outgoing.method.as_str();
    let (first, rest) = method.split_at(1);
    format!("{first}{} \"{}{}\"", rest.to_lowercase(), outgoing.origin, outgoing.path)
}

/// 0.5, 1, 2, 4 … seconds, and some more so that many clients do not come back together.
pub(super) fn back_off(attempt: u32) -> Duration {
    let base = 500_u64 << attempt.saturating_sub(1).min(5);
    Duration::from_millis(base + rand::random_range(0..=base / 2))
}
