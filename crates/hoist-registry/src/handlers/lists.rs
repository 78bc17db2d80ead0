//! Lists in pages: tags of a repository, repositories, referrers of a manifest.

use std::collections::BTreeMap;

use hyper::header::{HeaderName, LINK};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::Call;
use crate::answer::{self, Answer};
use crate::error::Error;
use crate::manifest::OCI_INDEX;
use crate::store::Referrer;

/// Tags on a page, at most, and where none is asked for: clients expect all of them.
const TAGS_MAX: u32 = 10_000;
/// Repositories on a page where none is asked for, as with Docker's registry.
const CATALOG_DEFAULT: u32 = 100;
const CATALOG_MAX: u32 = 10_000;
/// Referrers on a page; each may have annotations.
const REFERRERS_MAX: u32 = 100;

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: &'a [String],
}

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: &'a [String],
}

/// An image index whose entries refer to a manifest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrers {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

pub(super) async fn tags(call: &Call, name: String) -> Result<Answer, Error> {
    let count = call.number("n", TAGS_MAX)?.min(TAGS_MAX);
    let (last, repository) = (call.query("last").unwrap_or_default().to_owned(), name.clone());
    // One more than asked for tells whether there is another page.
    let tags = call.registry.store.run(move |store| store.tags(&repository, &last, count + 1)).await?;
    let page = Page::cut(tags, count);
    let answer = answer::json(&Tags { name: &name, tags: &page.entries })?;
    Ok(page.link(answer, &format!("/v2/{name}/tags/list?n={count}")))
}

pub(super) async fn catalog(call: &Call) -> Result<Answer, Error> {
    let count = call.number("n", CATALOG_DEFAULT)?.min(CATALOG_MAX);
    let last = call.query("last").unwrap_or_default().to_owned();
    let names = call.registry.store.run(move |store| store.repositories(&last, count + 1)).await?;
    let page = Page::cut(names, count);
    let answer = answer::json(&Catalog { repositories: &page.entries })?;
    Ok(page.link(answer, &format!("/v2/_catalog?n={count}")))
}

pub(super) async fn referrers(call: &Call, name: String, digest: String) -> Result<Answer, Error> {
    let artifact_type = call.query("artifactType").filter(|text| !text.is_empty()).map(str::to_owned);
    let last = call.query("last").unwrap_or_default().to_owned();
    let (repository, subject, filter) = (name.clone(), digest.clone(), artifact_type.clone());
    let found = call
        .registry
        .store
        .run(move |store| store.referrers(&repository, &subject, filter.as_deref(), (&last, REFERRERS_MAX + 1)));
    let found = found.await?;
    let page = Page::cut(found.iter().map(|referrer| referrer.manifest.digest.clone()).collect(), REFERRERS_MAX);
    let manifests = found.into_iter().take(page.entries.len()).map(descriptor).collect();
    let index = Referrers { schema_version: 2, media_type: OCI_INDEX, manifests };
    let mut answer = answer::json_as(OCI_INDEX, &index)?;
    let mut next = format!("/v2/{name}/referrers/{digest}?");
    if let Some(artifact_type) = artifact_type {
        answer::set(&mut answer, HeaderName::from_static("oci-filters-applied"), "artifactType");
        next.push_str(&format!("artifactType={}", utf8_percent_encode(&artifact_type, NON_ALPHANUMERIC)));
    }
    Ok(page.link(answer, &next))
}

fn descriptor(referrer: Referrer) -> Descriptor {
    Descriptor {
        media_type: referrer.manifest.media_type,
        digest: referrer.manifest.digest,
        size: referrer.manifest.size_bytes,
        artifact_type: referrer.artifact_type,
        annotations: referrer.annotations,
    }
}

/// So many entries, and whether there are more.
struct Page {
    entries: Vec<String>,
    has_next: bool,
}

impl Page {
    fn cut(mut entries: Vec<String>, count: u32) -> Page {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        // A page of nothing has none after it (distribution-spec "Listing Tags").
        let has_next = entries.len() > count && count > 0;
        entries.truncate(count);
        Page { entries, has_next }
    }

    /// Adds the way to the next page (RFC 5988).
    fn link(&self, mut answer: Answer, path: &str) -> Answer {
        if let Some(last) = self.entries.last().filter(|_| self.has_next) {
            let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
            answer::set(&mut answer, LINK, &format!("<{path}&last={last}>; rel=\"next\""));
        }
        answer
    }
}
