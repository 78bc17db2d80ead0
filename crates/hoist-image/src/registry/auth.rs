//! Logging in to registries: challenges, bearer tokens, basic authentication (distribution-spec "Token Authentication").
//! Credentials go to the registry and the token server it names, nowhere else, and never in the clear over a link that
//! could have been encrypted.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::endpoint::{Origin, Trust};
use super::error::{ApiError, Failure};
use super::transport::{Outgoing, Transport, document};
use crate::Credentials;

const TOKEN_MAX_BYTES: u64 = 1 << 20;
const CLIENT_ID: &str = "hoist";

/// What a `WWW-Authenticate` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: String, scope: String },
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// What a token server gave.
pub(super) struct Token {
    pub(super) access: String,
    /// To be used in place of the password, if it was asked for one.
    pub(super) refresh: Option<String>,
}

/// The strongest challenge among header values.
pub(super) fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for header in headers {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let parameters = parameters(rest);
            let get = |name: &str| {
                let value = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                value.map(|(_, value)| value.clone()).unwrap_or_default()
            };
            return Some(Challenge::Bearer { realm: get("realm"), service: get("service"), scope: get("scope") });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            found = Some(Challenge::Basic);
        }
    }
    found
}

/// `key="value", key=token, …` (RFC 9110 section 11.2).
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.push((key.trim().to_owned(), value));
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    found
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &text[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// Value of an `Authorization` header that proves who we are with a password.
pub(super) fn basic(credentials: &Credentials) -> Option<String> {
    if credentials.username.is_empty() {
        return None;
    }
    let pair = format!("{}:{}", credentials.username, credentials.password);
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// Fetches a token. The error text names the URL, as Go's does.
pub(super) async fn token(
    transport: &Transport,
    challenge: (&str, &str),
    scope: &str,
    credentials: Option<&Credentials>,
    registry: (&Origin, &Arc<Trust>),
) -> Result<Token, Failure> {
    request(transport, challenge, (scope, false), credentials, registry).await
}

/// Fetches a token for nothing in particular, and one that stands for the password.
pub(super) async fn login_token(
    transport: &Transport,
    challenge: (&str, &str),
    credentials: Option<&Credentials>,
    registry: (&Origin, &Arc<Trust>),
) -> Result<Token, Failure> {
    request(transport, challenge, ("", true), credentials, registry).await
}

async fn request(
    transport: &Transport,
    challenge: (&str, &str),
    (scope, offline): (&str, bool),
    credentials: Option<&Credentials>,
    registry: (&Origin, &Arc<Trust>),
) -> Result<Token, Failure> {
    let (realm, service) = challenge;
    let (origin, path) = Origin::of_url(realm).map_err(|e| Failure::Broken(e.to_string()))?;
    let (registry, trust) = registry;
    let trust = if origin.host == registry.host { trust.clone() } else { Arc::default() };
    // A registry reached by TLS that sends us to a token server without it gets no secret of ours.
    let in_the_clear = !origin.secure && registry.secure;
    let credentials = credentials.filter(|_| !in_the_clear);
    let identity = credentials.filter(|c| !c.identity_token.is_empty());
    let outgoing = match identity {
        Some(credentials) => refresh(origin, path, (service, scope), credentials, trust),
        None => anonymous_or_basic(origin, &path, (service, scope, offline), credentials, trust),
    };
    let verb = if outgoing.method == Method::POST { "Post" } else { "Get" };
    let shown = format!("{verb} \"{}{}\"", outgoing.origin, outgoing.path);
    let unreachable = |e: String| Failure::Unreachable(format!("{shown}: {e}"));
    let answer = transport.send(&outgoing).await.map_err(unreachable)?;
    let status = answer.status();
    let bytes = document(answer.into_body(), TOKEN_MAX_BYTES).await.map_err(unreachable)?;
    if status != StatusCode::OK {
        return Err(Failure::Refused(ApiError::new(status, &bytes)));
    }
    let broken = |text: String| Failure::Broken(text);
    let parsed: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|e| broken(format!("{shown}: unable to decode token: {e}")))?;
    let access = parsed.token.or(parsed.access_token).filter(|token| !token.is_empty());
    let missing = || broken("authorization server did not include a token in the response".to_owned());
    Ok(Token { access: access.ok_or_else(missing)?, refresh: parsed.refresh_token.filter(|token| !token.is_empty()) })
}

fn anonymous_or_basic(
    origin: Origin,
    path: &str,
    (service, scope, offline): (&str, &str, bool),
    credentials: Option<&Credentials>,
    trust: Arc<Trust>,
) -> Outgoing {
    let mut query = Vec::new();
    if offline {
        query.extend([("client_id", CLIENT_ID), ("offline_token", "true")]);
    }
    if let Some(credentials) = credentials.filter(|c| !c.username.is_empty()) {
        query.push(("account", credentials.username.as_str()));
    }
    query.extend(scope.split_whitespace().map(|scope| ("scope", scope)));
    query.extend(Some(("service", service)).filter(|(_, value)| !value.is_empty()));
    let separator = if path.contains('?') { '&' } else { '?' };
    let authorization = credentials.and_then(basic);
    Outgoing {
        method: Method::GET,
        origin,
        path: format!("{path}{separator}{}", form(&query)),
        headers: authorization.map(|value| (AUTHORIZATION, value)).into_iter().collect(),
        body: None,
        trust,
    }
}

/// OAuth 2 (distribution "Docker Registry v2 authentication using OAuth2").
fn refresh(
    origin: Origin,
    path: String,
    (service, scope): (&str, &str),
    credentials: &Credentials,
    trust: Arc<Trust>,
) -> Outgoing {
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", credentials.identity_token.as_str()),
        ("service", service),
        ("scope", scope),
        ("client_id", CLIENT_ID),
    ];
    Outgoing {
        method: Method::POST,
        origin,
        path,
        headers: vec![(CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())],
        body: Some(Bytes::from(form(&fields))),
        trust,
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(key, value)| format!("{key}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_parsed_with_quotes_and_commas() {
        let header =
            r#"Bearer realm="https://a.io/token",service="reg, \"x\"",scope="repository:a/b:pull,push",error=x"#;
        let wanted = Challenge::Bearer {
            realm: "https://a.io/token".into(),
            service: r#"reg, "x""#.into(),
            scope: "repository:a/b:pull,push".into(),
        };
        assert_eq!(challenge(["Basic realm=x", header].into_iter()), Some(wanted));
        assert_eq!(challenge([r#"basic realm="r""#].into_iter()), Some(Challenge::Basic));
        assert_eq!(challenge(["Negotiate"].into_iter()), None);
        assert_eq!(challenge([r#"Bearer realm="open"#].into_iter()).map(drop), Some(()));
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(
            form(&[("scope", "repository:a/b:pull"), ("x", "ä b")]),
            "scope=repository%3Aa%2Fb%3Apull&x=%C3%A4%20b"
        );
    }
}
