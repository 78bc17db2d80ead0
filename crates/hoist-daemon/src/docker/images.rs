//! `/images/…`

use std::io::{self, Read};
use std::sync::Arc;

use base64::Engine as _;
use bytes::{Buf, Bytes};
use hoist_api::error::Error;
use hoist_api::filters::Filters;
use hoist_api::image::ContainerConfig;
use hoist_api::reference::Reference;
use hoist_engine::{IMAGE_FILTER_KEYS, apply_changes};
use hoist_image::{Credentials, Platform, Progress, ProgressSink};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Call;
use super::answer::{self, Answer};
use super::containers::blocking;
use crate::hello;

pub(super) fn list(call: &Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &IMAGE_FILTER_KEYS)?;
    let images = match call.query.flag("shared-size") {
        true => call.engine.images.list_with_shares(&filters)?,
        false => call.engine.images.list(&filters)?,
    };
    let mut value = serde_json::to_value(images).map_err(|e| Error::internal(e.to_string()))?;
    value.as_array_mut().into_iter().flatten().for_each(|item| call.version.image_summary(item));
    answer::ok(&value)
}

pub(super) fn inspect(call: &Call) -> Result<Answer, Error> {
    let found = call.engine.images.inspect(&call.name, one_platform(call)?.as_ref())?;
    let mut value = serde_json::to_value(found).map_err(|e| Error::internal(e.to_string()))?;
    call.version.image(&mut value);
    answer::ok(&value)
}

pub(super) fn history(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.images.history(&call.name, one_platform(call)?.as_ref())?)
}

pub(super) fn tag(call: &Call) -> Result<Answer, Error> {
    call.engine.images.tag(&call.name, call.query.get("repo"), call.query.get("tag"))?;
    Ok(answer::status(StatusCode::CREATED))
}

pub(super) async fn remove(call: &Call) -> Result<Answer, Error> {
    let (images, name) = (call.engine.images.clone(), call.name.clone());
    for platform in platforms(&call.query.all("platforms"))? {
        images.inspect(&name, Some(&platform))?;
    }
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    answer::ok(&blocking(move || images.remove(&name, force, no_prune)).await?)
}

pub(super) async fn prune(call: &Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &["dangling", "label", "label!", "until"])?;
    let images = call.engine.images.clone();
    answer::ok(&blocking(move || images.prune(&filters)).await?)
}

/// Pull, or import with `fromSrc`.
pub(super) async fn create(call: Call) -> Result<Answer, Error> {
    if call.query.get("fromSrc").is_empty() { pull(call).await } else { import(call).await }
}

async fn pull(call: Call) -> Result<Answer, Error> {
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
    let platform = platform(call.query.get("platform"))?;
    let credentials = credentials(call.request.headers().get("x-registry-auth").and_then(|v| v.to_str().ok()));
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
            && hello::stands_in_for(&reference)
        {
            let text = format!("No registry gave hello-world ({error}): using the image built into hoist");
            sink(Progress { status: Some(text), ..Progress::default() });
            ended = blocking(move || hello::install(&engine, &reference)).await.map(drop);
        }
        if let Err(error) = ended {
            out.error(&error).await;
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
            Ok(id) => out.send_blocking(Line::Json(encode(&json!({"status": id})))),
            Err(error) => out.send_blocking(Line::Failed(error)),
        }
    });
    first_or_error(receiver).await
}

/// `POST /images/load`
pub(super) async fn load(call: Call) -> Result<Answer, Error> {
    let platforms = platforms(&call.query.all("platform"))?;
    let engine = call.engine.clone();
    let quiet = call.query.flag_or("quiet", true);
    let mut tar = BodyReader::new(call.request.into_body());
    let (out, sink, receiver) = progress_stream();
    tokio::task::spawn_blocking(move || {
        let sink: ProgressSink = if quiet {
            Arc::new(move |progress: Progress| {
                if progress.stream.is_some() {
                    sink(progress);
                }
            })
        } else {
            sink
        };
        let loaded = engine.images.load(&mut tar, &platforms, &sink);
        _ = io::copy(&mut tar, &mut io::sink());
        if let Err(error) = loaded {
            out.send_blocking(Line::Failed(error));
        }
    });
    first_or_error(receiver).await
}

/// `os/arch[/variant]`
fn platform(text: &str) -> Result<Option<Platform>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let platform = Platform::parse(text).map_err(Error::invalid)?;
    if platform.os == "linux" { Ok(Some(platform)) } else { Err(Error::invalid("operating system is not supported")) }
}

/// The platform of a request that may name one.
fn one_platform(call: &Call) -> Result<Option<Platform>, Error> {
    Ok(platforms(&call.query.all("platform"))?.into_iter().next())
}

/// The JSON objects that newer requests name platforms by; empty ones name none.
fn platforms(values: &[String]) -> Result<Vec<Platform>, Error> {
    let given = values.iter().filter(|text| !text.is_empty());
    given
        .map(|text| {
            let parsed: Platform = hoist_api::decode::from_slice(text.as_bytes())
                .map_err(|e| Error::invalid(format!("failed to parse platform: {e}")))?;
            if parsed.os.is_empty() || parsed.architecture.is_empty() {
                return Err(Error::invalid("both OS and Architecture must be provided"));
            }
            Ok(parsed)
        })
        .collect()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthHeader {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// `X-Registry-Auth`; what cannot be read counts as anonymous, as with dockerd.
pub(super) fn credentials(header: Option<&str>) -> Option<Credentials> {
    use base64::alphabet::URL_SAFE;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&URL_SAFE, lenient).decode(header?.trim()).ok()?;
    let mut parsed: AuthHeader = hoist_api::decode::from_slice(&bytes).ok()?;
    if parsed.username.is_empty() && !parsed.auth.is_empty() {
        let plain = base64::engine::general_purpose::STANDARD.decode(&parsed.auth).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (user, password) = plain.split_once(':')?;
        (parsed.username, parsed.password) = (user.to_owned(), password.to_owned());
    }
    let anonymous = parsed.username.is_empty() && parsed.identitytoken.is_empty() && parsed.registrytoken.is_empty();
    (!anonymous).then_some(Credentials {
        username: parsed.username,
        password: parsed.password,
        identity_token: parsed.identitytoken,
        registry_token: parsed.registrytoken,
    })
}

/// The writing end of a JSON progress stream.
#[derive(Clone)]
struct Out {
    lines: mpsc::Sender<Line>,
}

/// A line, or the failure that may still become a plain HTTP error if it comes first.
enum Line {
    Json(Bytes),
    Failed(Error),
}

impl Out {
    async fn error(&self, error: &Error) {
        _ = self.lines.send(Line::Failed(error.clone())).await;
    }

    async fn closed(&self) {
        self.lines.closed().await;
    }

    fn send_blocking(&self, line: Line) {
        _ = self.lines.blocking_send(line);
    }
}

fn encode(value: &Value) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.extend_from_slice(b"\r\n");
    Bytes::from(bytes)
}

fn progress_stream() -> (Out, ProgressSink, mpsc::Receiver<Line>) {
    let (lines, receiver) = mpsc::channel(256);
    let out = Out { lines: lines.clone() };
    let sink: ProgressSink = Arc::new(move |progress: Progress| {
        let line = Line::Json(encode(&progress_json(&progress)));
        // Byte counts may be dropped when the client reads slowly; words may not, but they are few.
        if progress.detail.is_some() {
            _ = lines.try_send(line);
        } else if let Err(mpsc::error::TrySendError::Full(line)) = lines.try_send(line) {
            let lines = lines.clone();
            _ = std::thread::Builder::new().spawn(move || lines.blocking_send(line));
        }
    });
    (out, sink, receiver)
}

fn progress_json(progress: &Progress) -> Value {
    let mut object = serde_json::Map::new();
    if let Some(stream) = &progress.stream {
        object.insert("stream".to_owned(), stream.clone().into());
    }
    if let Some(status) = &progress.status {
        object.insert("status".to_owned(), status.clone().into());
        let detail = match progress.detail {
            Some((current, 0)) => json!({"current": current}),
            Some((current, total)) => json!({"current": current, "total": total}),
            None => json!({}),
        };
        if progress.id.is_some() || progress.detail.is_some() {
            object.insert("progressDetail".to_owned(), detail);
        }
    }
    if let Some(id) = &progress.id {
        object.insert("id".to_owned(), id.clone().into());
    }
    Value::Object(object)
}

/// A failure before the first line is a plain HTTP error; later ones go in-band.
async fn first_or_error(mut lines: mpsc::Receiver<Line>) -> Result<Answer, Error> {
    let first = match lines.recv().await {
        Some(Line::Failed(error)) => return Err(error),
        Some(Line::Json(bytes)) => Some(bytes),
        None => None,
    };
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        if let Some(first) = first
            && sender.send(first).await.is_err()
        {
            return;
        }
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = sender.closed() => return,
            };
            let bytes = match line {
                Some(Line::Json(bytes)) => bytes,
                Some(Line::Failed(error)) => {
                    encode(&json!({"errorDetail": {"message": error.message}, "error": error.message}))
                }
                None => return,
            };
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
    });
    Ok(answer::stream("application/json", receiver))
}

/// A request body as a blocking reader.
struct BodyReader {
    chunks: mpsc::Receiver<Result<Bytes, io::Error>>,
    current: Bytes,
}

impl BodyReader {
    fn new(mut body: Incoming) -> BodyReader {
        let (sender, chunks) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let chunk = match frame {
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => Ok(data),
                        Err(_trailers) => continue,
                    },
                    Err(e) => Err(io::Error::other(e)),
                };
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        BodyReader { chunks, current: Bytes::new() }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
