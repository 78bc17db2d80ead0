//! One repository at one registry: requests with their authentication, redirects and retries.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hoist_api::reference::Reference;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};

use super::auth::{self, Challenge};
use super::endpoint::{self, Endpoint, Insecure, Origin};
use super::error::{ApiError, Failure};
use super::hosts;
use super::pause::retry_after;
use super::transport::{Outgoing, Transport, document};
use crate::{Config, Credentials, Error, ProgressSink};

const REDIRECTS_MAX: usize = 10;
const ERROR_BODY_MAX_BYTES: u64 = 64 * 1024;
/// How often something small is asked for that does not come, if the registry does not say when to ask again.
const REQUEST_ATTEMPTS: u32 = 3;
/// Docker's default of `max-download-attempts`.
const ATTEMPTS: u32 = 5;
/// What is to be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
    /// Nothing of a repository: only whether we are let in.
    Login,
}

/// A repository at the place it is read from or written to.
pub(crate) struct Repository {
    transport: Arc<Transport>,
    pub(super) endpoint: Endpoint,
    path: String,
    namespace: Option<String>,
    access: Access,
    credentials: Option<Credentials>,
    challenge: Mutex<Option<Challenge>>,
    /// Held while a token is fetched, so that requests side by side share it.
    tokens: tokio::sync::Mutex<HashMap<String, String>>,
    pub(super) attempts: u32,
    pub(super) progress: ProgressSink,
}

/// The places for a reference, best first. What somebody who waits should know is told to `progress`.
pub(crate) async fn places(
    reference: &Reference,
    access: Access,
    config: &Config,
    credentials: Option<&Credentials>,
    progress: &ProgressSink,
) -> Result<Vec<Repository>, Error> {
    places_at(&reference.domain, &reference.path, access, config, credentials, progress).await
}

/// The same for a registry by its domain.
pub(super) async fn places_at(
    domain: &str,
    path: &str,
    access: Access,
    config: &Config,
    credentials: Option<&Credentials>,
    progress: &ProgressSink,
) -> Result<Vec<Repository>, Error> {
    let transport = Arc::new(Transport::new(config.registry_directory()));
    let insecure = is_insecure(domain, config, &transport).await;
    let endpoints = endpoint::endpoints(domain, insecure, &config.registry_mirrors, config.registry_directory())?;
    let place = |endpoint: Endpoint| Repository {
        transport: transport.clone(),
        path: hosts::rewritten(path, &endpoint.rewrites),
        namespace: endpoint.namespaced.then(|| domain.to_owned()),
        access,
        credentials: credentials.filter(|_| !endpoint.mirror).cloned(),
        challenge: Mutex::default(),
        tokens: tokio::sync::Mutex::default(),
        attempts: config.max_download_attempts.unwrap_or(ATTEMPTS),
        progress: progress.clone(),
        endpoint,
    };
    let fits = |endpoint: &Endpoint| match access {
        Access::Pull => endpoint.pulls,
        Access::Push => endpoint.pushes,
        Access::Login => !endpoint.mirror,
    };
    Ok(endpoints.into_iter().filter(fits).map(place).collect())
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
    pub(crate) fn is_mirror(&self) -> bool {
        self.endpoint.mirror
    }

    /// Whether it may be asked what a tag stands for.
    pub(crate) fn resolves(&self) -> bool {
        self.endpoint.resolves
    }

    pub(crate) fn shown(&self) -> String {
        self.endpoint.origin.to_string()
    }

    /// Finds out whether a registry answers here and how it wants to be asked.
    pub(crate) async fn ping(&self) -> Result<(), Failure> {
        let outgoing = self.outgoing_root(Method::GET);
        let answer = self.follow(outgoing, None).await?;
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
            // Somebody waits for the answer, and hears nothing meanwhile.
            let is_worth_it = attempt < REQUEST_ATTEMPTS || failure.retry_after().is_some();
            let pause = self.pause(&failure, attempt).filter(|_| is_worth_it).ok_or(failure)?;
            tracing::debug!(what, attempt, "registry request is tried again");
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) async fn request_once(
        &self,
        method: Method,
        what: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let path = self.below(what);
        self.request_path(method, &path, headers).await
    }

    /// The same for a path the registry itself named.
    pub(super) async fn request_path(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, Failure> {
        self.exchange(self.outgoing(method, path.to_owned(), headers), "").await
    }

    /// One request with its authentication. `scope` is what a token must allow besides our own repository.
    pub(super) async fn exchange(&self, outgoing: Outgoing, scope: &str) -> Result<Response<Incoming>, Failure> {
        let shown = shown(&outgoing);
        let authorization = self.authorization(self.challenge(), scope, &shown).await?;
        let answer = self.follow(outgoing.clone(), authorization.clone()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return success(answer).await;
        }
        // A token may be too old or too narrow: ask for the scope that this very answer wants, once.
        let Some(challenge) = self.learn_challenge(answer.headers()) else { return success(answer).await };
        self.forget_token(authorization.as_deref()).await;
        match self.authorization(Some(challenge), scope, &shown).await? {
            Some(fresh) if authorization.as_ref() != Some(&fresh) => {
                success(self.follow(outgoing, Some(fresh)).await?).await
            }
            _ => success(answer).await,
        }
    }

    /// Sends a body that cannot be sent twice: no redirects, no second attempt. A login that ran out meanwhile is a
    /// failure that another attempt may mend.
    pub(super) async fn exchange_stream(
        &self,
        mut outgoing: Outgoing,
        body: super::upload::Upstream,
    ) -> Result<Response<Incoming>, Failure> {
        let shown = shown(&outgoing);
        let authorization = self.authorization(self.challenge(), "", &shown).await?;
        self.add_own_headers(&mut outgoing, authorization.as_ref());
        let answer = self.transport.send_stream(&outgoing, body).await;
        let answer = answer.map_err(|e| Failure::Unreachable(format!("{shown}: {e}")))?;
        if answer.status() == StatusCode::UNAUTHORIZED && self.learn_challenge(answer.headers()).is_some() {
            self.forget_token(authorization.as_deref()).await;
            return Err(Failure::Unreachable(format!("{shown}: unauthorized: authentication required")));
        }
        success(answer).await
    }

    pub(super) fn challenge(&self) -> Option<Challenge> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn forget_token(&self, authorization: Option<&str>) {
        self.tokens.lock().await.retain(|_, value| Some(value.as_str()) != authorization);
    }

    /// A request to the registry as such.
    pub(super) fn outgoing_root(&self, method: Method) -> Outgoing {
        self.outgoing(method, format!("{}/", self.endpoint.api), &[])
    }

    /// A request to this repository, `what` being below `/v2/<name>/`.
    pub(super) fn outgoing_below(&self, method: Method, what: &str, headers: &[(HeaderName, String)]) -> Outgoing {
        self.outgoing(method, self.below(what), headers)
    }

    /// A request to a URL that the registry named, relative or absolute.
    pub(super) fn outgoing_to(&self, method: Method, url: &str) -> Result<Outgoing, Failure> {
        let mut outgoing = self.outgoing(method, String::new(), &[]);
        (outgoing.origin, outgoing.path) = next_place(&outgoing.origin, url).map_err(Failure::Broken)?;
        if outgoing.origin.host != self.endpoint.origin.host {
            outgoing.trust = Arc::default();
        }
        Ok(outgoing)
    }

    fn outgoing(&self, method: Method, path: String, headers: &[(HeaderName, String)]) -> Outgoing {
        let (origin, trust) = (self.endpoint.origin.clone(), self.endpoint.trust.clone());
        Outgoing { method, origin, path, headers: headers.to_vec(), body: None, trust }
    }

    fn below(&self, what: &str) -> String {
        let path = format!("{}/{}/{what}", self.endpoint.api, self.path);
        match &self.namespace {
            Some(namespace) => {
                let separator = if what.contains('?') { '&' } else { '?' };
                format!("{path}{separator}ns={namespace}")
            }
            None => path,
        }
    }

    /// What proves who we are, and what else this place is to be told, for this place only.
    fn add_own_headers(&self, outgoing: &mut Outgoing, authorization: Option<&String>) {
        if outgoing.origin != self.endpoint.origin {
            return;
        }
        outgoing.headers.extend(self.endpoint.headers.iter().cloned());
        if let Some(value) = authorization {
            outgoing.headers.retain(|(name, _)| name != AUTHORIZATION);
            outgoing.headers.push((AUTHORIZATION, value.clone()));
        }
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Response<Incoming>, Failure> {
        let answer = self.transport.send(outgoing).await;
        answer.map_err(|e| Failure::Unreachable(format!("{}: {e}", shown(outgoing))))
    }

    /// Sends and follows redirects. What proves who we are stays with the origin it is meant for.
    pub(super) async fn follow(
        &self,
        mut outgoing: Outgoing,
        authorization: Option<String>,
    ) -> Result<Response<Incoming>, Failure> {
        let home = outgoing.origin.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = outgoing.clone();
            self.add_own_headers(&mut request, authorization.as_ref());
            let answer = self.send(&request).await?;
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let broken = |text: &str| Failure::Broken(format!("{}: {text}", shown(&outgoing)));
            let location = location.ok_or_else(|| broken("redirect without a place to go"))?;
            let (origin, path) = next_place(&outgoing.origin, location).map_err(|e| broken(&e))?;
            if origin.host != home.host {
                outgoing.trust = Arc::default();
            }
            (outgoing.origin, outgoing.path) = (origin, path);
        }
        Err(Failure::Broken(format!("{}: stopped after {REDIRECTS_MAX} redirects", shown(&outgoing))))
    }

    /// Takes note of what an answer asks for, if it asks for anything.
    fn learn_challenge(&self, headers: &HeaderMap) -> Option<Challenge> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = auth::challenge(values)?;
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge.clone());
        Some(challenge)
    }

    async fn authorization(
        &self,
        challenge: Option<Challenge>,
        scope: &str,
        shown: &str,
    ) -> Result<Option<String>, Failure> {
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
            Some(Challenge::Bearer { realm, service, scope: wanted }) => {
                let mut scopes: BTreeSet<&str> = wanted.split_whitespace().chain(scope.split_whitespace()).collect();
                let actions = if self.access == Access::Push { "pull,push" } else { "pull" };
                let own = format!("repository:{}:{actions}", self.path);
                if wanted.is_empty() || self.access == Access::Push {
                    scopes.insert(&own);
                }
                let scopes: Vec<&str> = scopes.into_iter().collect();
                self.token(&realm, &service, &scopes.join(" "), shown).await.map(Some)
            }
        }
    }

    /// A token that lets us in, and one for later.
    pub(super) async fn login_token(&self, realm: &str, service: &str) -> Result<auth::Token, Failure> {
        let registry = (&self.endpoint.origin, &self.endpoint.trust);
        auth::login_token(&self.transport, (realm, service), self.credentials.as_ref(), registry).await
    }

    async fn token(&self, realm: &str, service: &str, scope: &str, shown: &str) -> Result<String, Failure> {
        let key = format!("{realm} {service} {scope}");
        let mut tokens = self.tokens.lock().await;
        if let Some(known) = tokens.get(&key) {
            return Ok(known.clone());
        }
        let registry = (&self.endpoint.origin, &self.endpoint.trust);
        let token = auth::token(&self.transport, (realm, service), scope, self.credentials.as_ref(), registry).await;
        let value = format!("Bearer {}", token.map_err(|e| e.within(shown))?.access);
        tokens.insert(key, value.clone());
        Ok(value)
    }
}

/// Where a redirect or `Location` leads.
fn next_place(from: &Origin, location: &str) -> Result<(Origin, String), String> {
    let (origin, path) = if location.starts_with('/') && !location.starts_with("//") {
        (from.clone(), location.to_owned())
    } else {
        Origin::of_url(location).map_err(|e| format!("redirect to an {e}"))?
    };
    if from.secure && !origin.secure {
        return Err("redirect from https to http".to_owned());
    }
    Ok((origin, path))
}

async fn success(answer: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
    let body = document(answer.into_body(), ERROR_BODY_MAX_BYTES).await.unwrap_or_default();
    Err(Failure::Refused(ApiError::new(status, &body).after(retry_after)))
}

/// `Get "https://…"`
pub(super) fn shown(outgoing: &Outgoing) -> String {
    let method = outgoing.method.as_str();
    let (first, rest) = method.split_at(1);
    format!("{first}{} \"{}{}\"", rest.to_lowercase(), outgoing.origin, outgoing.path)
}
