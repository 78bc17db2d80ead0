//! Finding repositories by a word: a registry's search of the first API, which Docker Hub's index has, or where there is none
//! its catalog (OCI distribution-spec, "Listing repositories" is an extension).

use std::sync::Arc;

use hoist_api::reference::{DEFAULT_DOMAIN, Reference};
use hyper::Method;
use hyper::header::LINK;
use serde::Deserialize;

use super::blob::next_page;
use super::client::{self, Access, Repository};
use super::error::Failure;
use super::transport::document;
use crate::{Credentials, Error, ProgressSink, Store};

/// Who answers for words that name no registry.
const HUB_INDEX: &str = "index.docker.io";
const ANSWER_MAX_BYTES: u64 = 8 << 20;
const CATALOG_PAGES_MAX: usize = 100;
const CATALOG_PAGE_ENTRIES: usize = 1000;

/// One repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub name: String,
    pub description: String,
    pub star_count: i64,
    pub is_official: bool,
    pub is_automated: bool,
}

impl SearchResult {
    /// A registry's words, for a terminal.
    fn plain(mut self) -> SearchResult {
        self.name.retain(|c| !c.is_control());
        self.description = self.description.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    results: Option<Vec<SearchResult>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

/// A term, taken apart: which registry is asked, and for what.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    /// Host and port.
    registry: String,
    words: String,
}

impl Question {
    /// `index` answers for terms without a registry; empty: Docker Hub's.
    fn parse(term: &str, index: &str) -> Result<Question, Error> {
        if term.contains("://") {
            let text = format!("invalid repository name: repository name ({term}) should not have a scheme");
            return Err(Error::Invalid(text));
        }
        let named = term.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
        let (registry, words) = match named {
            Some((DEFAULT_DOMAIN | HUB_INDEX, words)) => (HUB_INDEX, words),
            Some((registry, words)) => (registry, words),
            None if index.is_empty() => (HUB_INDEX, term),
            None => (host_of(index), term),
        };
        // Hub's own images are found without their first word
        let words = if registry == HUB_INDEX { words.strip_prefix("library/").unwrap_or(words) } else { words };
        Ok(Question { registry: registry.to_owned(), words: words.to_owned() })
    }
}

/// `host:port` of an address with or without scheme and path.
fn host_of(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

impl Store {
    /// Asks a registry for repositories; at most `limit` come back.
    pub async fn search(
        &self,
        term: &str,
        limit: usize,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<SearchResult>, Error> {
        let config = self.config();
        let question = Question::parse(term, &config.search_index)?;
        let place = Reference { domain: question.registry.clone(), path: "search".to_owned(), tag: None, digest: None };
        let mut last = Error::Other(format!("no registry at {}", question.registry));
        let unheard: ProgressSink = Arc::new(|_| {});
        for repository in client::places(&place, Access::Pull, &config, credentials, &unheard).await? {
            match repository.search(&question, limit).await {
                Ok(found) => return Ok(found),
                Err(failure @ Failure::Unreachable(_)) => last = failure.for_pull(&place),
                Err(failure) => return Err(failure.for_pull(&place)),
            }
        }
        Err(last)
    }
}

impl Repository {
    async fn search(&self, question: &Question, limit: usize) -> Result<Vec<SearchResult>, Failure> {
        let path = format!("/v1/search?q={}&n={limit}", escape(&question.words));
        let answer = match self.request_path(Method::GET, &path, &[]).await {
            Ok(answer) => answer,
            // registries of today have no such page
            Err(refused @ Failure::Refused(_)) if question.registry == HUB_INDEX => return Err(refused),
            Err(Failure::Refused(_)) => return self.search_catalog(question, limit).await,
            Err(failure) => return Err(failure),
        };
        let bytes = document(answer.into_body(), ANSWER_MAX_BYTES).await.map_err(Failure::Unreachable)?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| {
            Failure::Broken(format!("{} answered a search with something else: {e}", question.registry))
        })?;
        Ok(answer.results.unwrap_or_default().into_iter().take(limit).map(SearchResult::plain).collect())
    }

    async fn search_catalog(&self, question: &Question, limit: usize) -> Result<Vec<SearchResult>, Failure> {
        let words = question.words.to_lowercase();
        let mut found = Vec::new();
        let mut path = format!("/v2/_catalog?n={CATALOG_PAGE_ENTRIES}");
        for _ in 0..CATALOG_PAGES_MAX {
            let answer = self.request_path(Method::GET, &path, &[]).await?;
            let next = answer.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(next_page);
            let bytes = document(answer.into_body(), ANSWER_MAX_BYTES).await.map_err(Failure::Unreachable)?;
            let page: Catalog =
                serde_json::from_slice(&bytes).map_err(|e| Failure::Broken(format!("invalid catalog: {e}")))?;
            let fits = |name: &String| name.to_lowercase().contains(&words);
            let names = page.repositories.unwrap_or_default().into_iter().filter(fits);
            // by these names they can be pulled
            let named =
                |name| SearchResult { name: format!("{}/{name}", question.registry), ..SearchResult::default() };
            found.extend(names.map(named).map(SearchResult::plain).take(limit - found.len()));
            match next {
                Some(next) if found.len() < limit => path = next,
                _ => return Ok(found),
            }
        }
        Ok(found)
    }
}

/// A value of a query (RFC 3986 section 2.3).
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// For the fuzzers: everything a registry may answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_answer(bytes: &[u8]) {
    let _ = (serde_json::from_slice::<Answer>(bytes).is_ok(), serde_json::from_slice::<Catalog>(bytes).is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(term: &str, index: &str) -> (String, String) {
        Question::parse(term, index).map(|q| (q.registry, q.words)).unwrap()
    }

    #[test]
    fn a_term_says_who_is_asked() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(question("busybox", ""), pair(HUB_INDEX, "busybox"));
        assert_eq!(question("library/busybox", ""), pair(HUB_INDEX, "busybox"));
        assert_eq!(question("docker.io/me/x", ""), pair(HUB_INDEX, "me/x"));
        assert_eq!(question("me/x", ""), pair(HUB_INDEX, "me/x"));
        assert_eq!(question("r:5000/library/x", ""), pair("r:5000", "library/x"));
        assert_eq!(question("localhost/x", ""), pair("localhost", "x"));
        assert_eq!(question("library", "http://127.0.0.1:5000/"), pair("127.0.0.1:5000", "library"));
        assert!(Question::parse("https://r/x", "").is_err());
    }

    #[test]
    fn terms_cannot_leave_the_query() {
        assert_eq!(escape("a b&n=9#/ä"), "a%20b%26n%3D9%23%2F%C3%A4");
    }
}
