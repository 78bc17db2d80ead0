//! `docker login`: whether a registry takes some credentials, and the identity token that it may give for them.

use hoist_api::reference::DEFAULT_DOMAIN;
use hyper::{Method, StatusCode};

use super::auth::{self, Challenge};
use super::client::{Access, Repository, places_at, shown};
use super::error::Failure;
use crate::{Config, Credentials, Error, ProgressSink};

/// Names by which clients call Docker Hub.
const HUB: [&str; 4] = ["", "docker.io", "index.docker.io", "registry-1.docker.io"];

/// Why a login failed.
enum Refusal {
    Failure(Failure),
    /// The registry itself, not its token server, said no.
    Status(String),
}

/// Tries credentials at a registry, which is named as clients do: `host`, `host:port` or the beginning of a URL. Returns
/// the identity token to use from now on in place of the password, "" if there is none.
pub(crate) async fn login(server: &str, credentials: &Credentials, config: &Config) -> Result<String, Error> {
    let host = host_of(server);
    let domain = if HUB.contains(&host) { DEFAULT_DOMAIN } else { host };
    let silent: ProgressSink = std::sync::Arc::new(|_| {});
    let mut last = Error::Other(format!("no registry for {domain}"));
    for place in places_at(domain, "", Access::Login, config, Some(credentials), &silent).await? {
        if let Err(failure) = place.ping().await {
            last = Error::Other(failure.to_string());
            continue;
        }
        return place.login(credentials).await.map_err(|refusal| match refusal {
            Refusal::Status(text) => Error::Other(text),
            Refusal::Failure(failure) if failure.is_denied() => Error::Unauthorized(failure.to_string()),
            Refusal::Failure(failure) => Error::Other(failure.to_string()),
        });
    }
    Err(last)
}

/// Without scheme and path.
fn host_of(server: &str) -> &str {
    let server = server.trim();
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    rest.split('/').next().unwrap_or_default()
}

impl Repository {
    async fn login(&self, credentials: &Credentials) -> Result<String, Refusal> {
        let outgoing = self.outgoing_root(Method::GET);
        let shown = shown(&outgoing);
        let mut identity = credentials.identity_token.clone();
        let authorization = match self.challenge() {
            None => None,
            Some(Challenge::Basic) => {
                let missing = || Failure::Broken(format!("{shown}: no basic auth credentials"));
                Some(auth::basic(credentials).ok_or_else(missing).map_err(Refusal::Failure)?)
            }
            Some(Challenge::Bearer { realm, service, .. }) => {
                let token = self.login_token(&realm, &service).await;
                let token = token.map_err(|failure| Refusal::Failure(failure.within(&shown)))?;
                identity = token.refresh.unwrap_or(identity);
                Some(format!("Bearer {}", token.access))
            }
        };
        let url = format!("{}{}", outgoing.origin, outgoing.path);
        let answer = self.follow(outgoing, authorization).await.map_err(Refusal::Failure)?;
        if answer.status() == StatusCode::OK {
            return Ok(identity);
        }
        Err(Refusal::Status(format!("login attempt to {url} failed with status: {}", answer.status())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_in_many_ways() {
        for server in ["https://index.docker.io/v1/", "", "docker.io", "https://registry-1.docker.io"] {
            assert!(HUB.contains(&host_of(server)), "{server}");
        }
        for server in ["reg.lan:5000", "http://reg.lan:5000/v2/", " https://reg.lan:5000"] {
            assert_eq!(host_of(server), "reg.lan:5000");
        }
    }
}
