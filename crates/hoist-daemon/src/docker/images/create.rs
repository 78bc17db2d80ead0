//! `POST /images/create`: pull and import.

use std::io::{self, Read};

use hoist_api::error::Error;
use hoist_api::image::ContainerConfig;
use hoist_api::reference::Reference;
use hoist_engine::apply_changes;
use hoist_image::{Platform, Progress};
use serde_json::json;

use super::archive::BodyReader;
use super::progress::{first_or_error, progress_stream};
use super::push::credentials_of;
use super::{Answer, Call, blocking, platform};
use crate::hello;

/// Pull, or import with `fromSrc`.
pub(in crate::docker) async fn create(call: Call) -> Result<Answer, Error> {
    if call.query.get("fromSrc").is_empty() { pull(call, false).await } else { import(call).await }
}

/// Hoist's own: pulls what a rule of the signature policy demands a signature of, and nothing else.
pub(in crate::docker) async fn pull_trusted(call: Call) -> Result<Answer, Error> {
    pull(call, true).await
}

async fn pull(mut call: Call, trusted: bool) -> Result<Answer, Error> {
    call.pass_over_body().await;
    let (from, tag) = (call.query.get("fromImage"), call.query.get("tag"));
    if from.is_empty() {
        return Err(Error::invalid("invalid reference format"));
    }
    let invalid = |e: hoist_api::reference::ReferenceError| Error::invalid(e.to_string());
    let mut reference = Reference::parse(from).map_err(invalid)?;
    if tag.starts_with("sha256:") {
        reference = Reference::parse(&format!("{}@{tag}", reference.name())).map_err(invalid)?;
    } else if !tag.is_empty() {
        reference = Reference::parse(&format!("{}:{tag}", reference.name())).map_err(invalid)?;
    }
    let all_tags = reference.is_name_only();
    if trusted {
        call.engine.images.check_trust(&reference)?;
    }
    let platform = platform(call.query.get("platform"))?;
    let credentials = credentials_of(&call);
    let (out, sink, receiver) = progress_stream();
    let engine = call.engine.clone();
    tokio::spawn(async move {
        let pulling = engine.images.pull(&reference, all_tags, platform.as_ref(), credentials.as_ref(), sink.clone());
        let mut ended = tokio::select! {
            ended = pulling => ended,
            // The client is gone: so is its pull, as with dockerd.
            () = out.closed() => return,
        };
        if let Err(error) = &ended
            && !trusted
            && hello::stands_in_for(&reference)
        {
            let text = format!("No registry gave hello-world ({error}): using the image built into hoist");
            sink(Progress { status: Some(text), ..Progress::default() });
            ended = blocking(move || hello::install(&engine, &reference)).await.map(drop);
        }
        if let Err(error) = ended {
            out.error(error);
        }
    });
    first_or_error(receiver).await
}

/// What an import is to become.
struct ImportRequest {
    reference: Option<Reference>,
    config: ContainerConfig,
    platform: Option<Platform>,
    message: String,
}

impl ImportRequest {
    fn of(call: &Call, source: &str) -> Result<ImportRequest, Error> {
        let invalid = |e: hoist_api::reference::ReferenceError| Error::invalid(e.to_string());
        let reference = match (call.query.get("repo"), call.query.get("tag")) {
            ("", _) => None,
            (repo, "") => Some(Reference::parse(repo).map_err(invalid)?.with_default_tag()),
            (repo, tag) => Some(Reference::parse(&format!("{repo}:{tag}")).map_err(invalid)?),
        };
        let mut config = ContainerConfig::default();
        apply_changes(&mut config, &call.query.all("changes"))?;
        let platform = platform(call.query.get("platform"))?;
        let message = match call.query.get("message") {
            "" => format!("Imported from {source}"),
            text => text.to_owned(),
        };
        Ok(ImportRequest { reference, config, platform, message })
    }
}

async fn import(call: Call) -> Result<Answer, Error> {
    let source = call.query.get("fromSrc").to_owned();
    let wanted = ImportRequest::of(&call, &source);
    let engine = call.engine.clone();
    let mut body = BodyReader::new(call.request.into_body());
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(error) => {
            // A client that is still writing would see a broken connection and not the answer.
            let drained = blocking(move || Ok(io::copy(&mut body, &mut io::sink()).unwrap_or(0))).await?;
            tracing::debug!("{drained} bytes of a refused import were passed over");
            return Err(error);
        }
    };
    let (out, sink, receiver) = progress_stream();
    let mut tar: Box<dyn Read + Send> = match source.as_str() {
        "-" => Box::new(body),
        url => {
            let opened = engine.images.open_url(url).await?;
            sink(Progress { status: Some(format!("Downloading from {}", opened.url())), ..Progress::default() });
            Box::new(opened.into_reader(&sink))
        }
    };
    tokio::task::spawn_blocking(move || {
        let ImportRequest { reference, config, platform, message } = wanted;
        let imported = engine.images.import(&mut *tar, reference.as_ref(), &config, &message, platform.as_ref());
        // Drained to its end, as above.
        _ = io::copy(&mut tar, &mut io::sink());
        match imported {
            Ok(id) => out.json(&json!({"status": id})),
            Err(error) => out.error(error),
        }
    });
    first_or_error(receiver).await
}
