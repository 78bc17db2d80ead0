//! What any URL names, read by `docker import URL`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, LOCATION};
use hyper::{Method, Response};

use super::blob::{ChunkReader, channel};
use super::endpoint::Origin;
use super::transport::{Outgoing, Transport, document, next_chunk};
use crate::{Error, Progress, ProgressSink};

const REDIRECTS_MAX: usize = 10;
const ERROR_BODY_MAX_BYTES: u64 = 64 * 1024;
const ERROR_SHOWN_CHARS: usize = 1000;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The answer of a web server, its body still to be read.
#[derive(Debug)]
pub struct UrlSource {
    url: String,
    total_bytes: u64,
    body: Incoming,
}

impl UrlSource {
    /// Asks for it. Without a scheme it is http, as with dockerd.
    pub async fn open(url: &str) -> Result<UrlSource, Error> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let scheme = url.split("://").next().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Error::Invalid(format!("Get {url:?}: unsupported protocol scheme {scheme:?}")));
        }
        let answer = get(&url).await.map_err(|e| Error::Other(format!("Get {url:?}: {e}")))?;
        let status = answer.status();
        if !status.is_success() {
            let body = document(answer.into_body(), ERROR_BODY_MAX_BYTES).await.unwrap_or_default();
            let body: String = String::from_utf8_lossy(&body).chars().take(ERROR_SHOWN_CHARS).collect();
            return Err(Error::Other(format!("failed to GET {url} with status {status}: {}", body.trim())));
        }
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(UrlSource { url, total_bytes: length.unwrap_or(0), body: answer.into_body() })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The body, for a blocking reader; says how much of it came. Must be called within a tokio runtime.
    pub fn into_reader(self, progress: &ProgressSink) -> impl Read + Send + use<> {
        let (sink, reader): (_, ChunkReader) = channel();
        let (progress, mut body, total) = (progress.clone(), self.body, self.total_bytes);
        tokio::spawn(async move {
            let (mut bytes, mut last) = (0, None::<Instant>);
            loop {
                match next_chunk(&mut body).await {
                    Ok(Some(chunk)) => {
                        bytes += chunk.len() as u64;
                        if bytes == total || last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL) {
                            last = Some(Instant::now());
                            let detail = Some((bytes, total));
                            progress(Progress { detail, ..Progress::status(None, "Importing") });
                        }
                        if !sink.send(chunk).await {
                            return;
                        }
                    }
                    Ok(None) => return sink.finish().await,
                    Err(text) => return sink.fail(text).await,
                }
            }
        });
        reader
    }
}

async fn get(url: &str) -> Result<Response<Incoming>, String> {
    let transport = Transport::new(Path::new(crate::REGISTRY_DIRECTORY));
    let (mut origin, mut path) = Origin::of_url(url).map_err(|e| e.to_string())?;
    for _ in 0..=REDIRECTS_MAX {
        let outgoing = Outgoing {
            method: Method::GET,
            origin: origin.clone(),
            path,
            headers: Vec::new(),
            body: None,
            trust: Arc::default(),
        };
        let answer = transport.send(&outgoing).await?;
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let (true, Some(location)) = (answer.status().is_redirection(), location) else { return Ok(answer) };
        let next = if location.starts_with('/') && !location.starts_with("//") {
            (origin.clone(), location.to_owned())
        } else {
            Origin::of_url(location).map_err(|e| format!("redirect to an {e}"))?
        };
        if origin.secure && !next.0.secure {
            return Err("redirect from https to http".to_owned());
        }
        (origin, path) = next;
    }
    Err(format!("stopped after {REDIRECTS_MAX} redirects"))
}
