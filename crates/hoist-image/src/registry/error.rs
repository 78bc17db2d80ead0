//! What a registry answers when it refuses (distribution-spec "Error Codes"), in the words Docker gives it.

use std::fmt;
use std::time::Duration;

use hoist_api::reference::Reference;
use hyper::StatusCode;
use serde::Deserialize;

use crate::Error;

/// Why a request to a registry failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It answered with an error.
    Refused(ApiError),
    /// It could not be reached, or broke off: another attempt or another endpoint may do.
    Unreachable(String),
    /// It answered something that cannot be right.
    Broken(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    /// `MANIFEST_UNKNOWN`
    code: String,
    message: String,
    /// When the registry says that it may be asked again.
    retry_after: Option<Duration>,
    /// What was asked for, where the refusal is told as part of it; "" mostly.
    within: String,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Option<Vec<Item>>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, body: &[u8]) -> ApiError {
        let parsed: Option<Body> = serde_json::from_slice(body).ok();
        let first = parsed.as_ref().and_then(|body| body.errors.as_ref()?.first());
        let code = first.and_then(|item| item.code.clone()).unwrap_or_else(|| code_of(status).to_owned());
        let message = first.and_then(|item| item.message.clone()).filter(|message| !message.is_empty());
        let loose = parsed.as_ref().and_then(|body| body.details.clone().or_else(|| body.message.clone()));
        let message = message.or(loose).unwrap_or_else(|| message_of(&code, status));
        ApiError { status, code: plain(&code), message: plain(&message), retry_after: None, within: String::new() }
    }

    /// The same, with what its `Retry-After` says.
    pub(super) fn after(self, retry_after: Option<Duration>) -> ApiError {
        ApiError { retry_after, ..self }
    }

    /// `manifest unknown: manifest unknown`
    fn text(&self) -> String {
        if self.code.is_empty() {
            return format!("{}{}", self.within, self.message);
        }
        format!("{}{}: {}", self.within, self.code.to_lowercase().replace('_', " "), self.message)
    }
}

/// A registry's words, for a terminal and a log.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(1000).collect()
}

fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "DENIED",
        StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        _ => "",
    }
}

fn message_of(code: &str, status: StatusCode) -> String {
    match code {
        "UNAUTHORIZED" => "authentication required".to_owned(),
        "DENIED" => "requested access to the resource is denied".to_owned(),
        "MANIFEST_UNKNOWN" => "manifest unknown".to_owned(),
        "NAME_UNKNOWN" => "repository name not known to registry".to_owned(),
        "TOOMANYREQUESTS" => "too many requests".to_owned(),
        _ => format!("received unexpected HTTP status: {status}"),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(refused) => f.write_str(&refused.text()),
            Failure::Unreachable(text) | Failure::Broken(text) => f.write_str(text),
        }
    }
}

impl Failure {
    /// The registry says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Failure::Refused(e) if e.status == StatusCode::NOT_FOUND)
    }

    /// The registry refuses who we are or what we want, and always will.
    pub(crate) fn is_denied(&self) -> bool {
        let denies = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        matches!(self, Failure::Refused(e) if denies.contains(&e.status))
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Refused(refused) => refused.retry_after,
            _ => None,
        }
    }

    /// The same, told as part of something else that was asked for.
    pub(super) fn within(self, shown: &str) -> Failure {
        match self {
            Failure::Refused(refused) => {
                Failure::Refused(ApiError { within: format!("{shown}: {}", refused.within), ..refused })
            }
            Failure::Unreachable(text) => Failure::Unreachable(format!("{shown}: {text}")),
            Failure::Broken(text) => Failure::Broken(format!("{shown}: {text}")),
        }
    }

    /// What somebody who asks about an image is told.
    pub(crate) fn for_distribution(self) -> Error {
        match &self {
            Failure::Refused(e) if e.status == StatusCode::NOT_FOUND => Error::NotFound(self.to_string()),
            Failure::Refused(_) if self.is_denied() => Error::Unauthorized(self.to_string()),
            _ => Error::Other(self.to_string()),
        }
    }

    /// What the user of a push is told.
    pub(crate) fn for_push(self) -> Error {
        Error::Other(self.to_string())
    }

    /// Worth another attempt at the same place.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Failure::Refused(e) => e.status.is_server_error() || e.status == StatusCode::TOO_MANY_REQUESTS,
            Failure::Unreachable(_) => true,
            Failure::Broken(_) => false,
        }
    }

    /// What the user of a pull is told.
    pub(crate) fn for_pull(self, reference: &Reference) -> Error {
        let refused = match self {
            Failure::Refused(refused) => refused,
            Failure::Unreachable(text) | Failure::Broken(text) => return Error::Other(text),
        };
        let (name, text) = (reference.familiar_name(), refused.text());
        match refused.code.as_str() {
            "DENIED" => Error::NotFound(format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login': {text}"
            )),
            "MANIFEST_UNKNOWN" => Error::NotFound(format!("manifest for {} not found: {text}", reference.familiar())),
            "NAME_UNKNOWN" => Error::NotFound(format!("repository {name} not found: {text}")),
            "UNAUTHORIZED" => Error::Unauthorized(text),
            _ if refused.status == StatusCode::NOT_FOUND => Error::NotFound(text),
            _ => Error::Other(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> String {
        let error = ApiError::new(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        Failure::Refused(error).for_pull(&Reference::parse("foo:bar").unwrap()).to_string()
    }

    #[test]
    fn refusals_are_told_in_dockers_words() {
        assert_eq!(
            told(
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"bar"}}]}"#
            ),
            "manifest for foo:bar not found: manifest unknown: manifest unknown"
        );
        assert_eq!(
            told(403, r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#),
            "pull access denied for foo, repository does not exist or may require 'docker login': denied: requested \
             access to the resource is denied"
        );
        assert_eq!(told(401, ""), "unauthorized: authentication required");
        assert_eq!(told(500, "<html>"), "received unexpected HTTP status: 500 Internal Server Error");
        assert_eq!(told(429, "{}"), "toomanyrequests: too many requests");
        assert_eq!(told(418, r#"{"errors":[{"code":"A\u001b","message":"evil\u001b[2J"}]}"#), "a: evil[2J");
    }
}
