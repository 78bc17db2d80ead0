//! Hoist's one-request run: create, attach, start, wait in one hijacked exchange (frames: `hoist_api::run`).

use std::sync::Arc;
use std::time::Instant;

use hoist_api::error::Error;
use hoist_api::run::{CONTAINER_HEADER, CONTROL, Control, Request, RunBody, STDIN};
use hoist_engine::stream::{DetachKeys, frame_header};
use hoist_engine::{AttachOptions, Attachment, CreateRequest, Engine, Recording, WaitCondition};
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Call;
use super::answer::{self, Answer};
use super::hijack::{Presence, Stream, hijack};
use super::streams::RAW;

/// Longest frame that a client may send, in bytes.
const MAX_FRAME_BYTES: u32 = 1024 * 1024;

pub(super) async fn run(mut call: Call) -> Result<Answer, Error> {
    let begun = Instant::now();
    let body: RunBody = call.json().await?;
    let keys = DetachKeys::parse(&body.run.detach_keys)?;
    let engine = call.engine.clone();
    let request = CreateRequest {
        name: call.query.get("name").to_owned(),
        platform: call.query.get("platform").to_owned(),
        body: body.create,
    };
    let mut timing = vec![("decode".to_owned(), nanos(begun))];
    let (id, warnings) = engine.containers.create(request, Recording::WithStart)?;
    timing.push(("create".to_owned(), nanos(begun)));
    match start(&engine, &id, &body.run).await {
        Ok(Started { attachment, waiting, phases }) => {
            timing.extend(phases);
            timing.push(("start".to_owned(), nanos(begun)));
            let first = Control { id: Some(id), warnings, ..Control::default() };
            let timing = if body.run.timing { timing } else { Vec::new() };
            if body.run.detach {
                return answer::ok(&Control { timing, ..first });
            }
            let keys = if attachment.tty { keys } else { DetachKeys::none() };
            let exchange = Exchange { engine, attachment, keys, first, timing, waiting };
            Ok(hijack(call.request, RAW, move |client, presence| exchange.talk(client, presence)))
        }
        Err(error) => {
            let mut response = answer::error(&engine.system.explain(error));
            if let Ok(value) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(CONTAINER_HEADER, value);
            }
            Ok(response)
        }
    }
}

fn nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

type Waiting = std::pin::Pin<Box<dyn Future<Output = Arc<hoist_engine::Record>> + Send>>;

struct Started {
    attachment: Attachment,
    waiting: Waiting,
    /// Names and nanoseconds.
    phases: Vec<(String, u64)>,
}

async fn start(engine: &Engine, id: &str, options: &hoist_api::run::RunOptions) -> Result<Started, Error> {
    let wants = |stream: &str| options.attach.iter().any(|a| a.eq_ignore_ascii_case(stream));
    let attach = AttachOptions { stdin: wants("stdin"), stdout: wants("stdout"), stderr: wants("stderr") };
    let attachment = engine.containers.attach(id, attach).await?;
    let waiting: Waiting = Box::pin(engine.containers.wait(id, WaitCondition::NextExit)?);
    let phases = engine.containers.start(id).await?;
    if let Some((rows, columns)) = options.tty_size {
        // It may have ended already.
        _ = engine.containers.resize(id, rows, columns).await;
    }
    Ok(Started { attachment, waiting, phases })
}

/// One run's exchange after the upgrade.
struct Exchange {
    engine: Arc<Engine>,
    attachment: Attachment,
    keys: DetachKeys,
    /// The first control message.
    first: Control,
    timing: Vec<(String, u64)>,
    waiting: Waiting,
}

impl Exchange {
    async fn talk(self, client: Stream, presence: Presence) {
        let Exchange { engine, attachment, keys, first, mut timing, waiting } = self;
        let begun = Instant::now();
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_container, mut to_container) = attachment.stream.into_split();
        let id = first.id.clone().unwrap_or_default();
        if send(&mut to_client, &first).await.is_err() {
            return;
        }
        let output = copy_out(&mut from_container, &mut to_client, attachment.tty);
        let input = async {
            let detached = copy_in(&mut from_client, &mut to_container, &engine, &id, keys).await;
            if !detached {
                presence.gone().await;
            }
            detached
        };
        let detached = tokio::select! {
            there = output => if there { false } else { return },
            // Not detached and yet at an end: the client is gone, the container goes on.
            detached = input => if detached { true } else { return },
        };
        let last = if detached {
            Control { detached: true, ..Control::default() }
        } else {
            let record = waiting.await;
            if !timing.is_empty() {
                timing.push(("run".to_owned(), nanos(begun)));
            }
            Control {
                exit_code: Some(i64::from(record.state.exit_code)),
                error: record.state.error.clone(),
                timing,
                ..Control::default()
            }
        };
        _ = send(&mut to_client, &last).await;
        _ = to_client.shutdown().await;
    }
}

/// Output to the client: frames as they are, a terminal's bytes in frames. False when the client has gone.
async fn copy_out<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(container: &mut R, client: &mut W, tty: bool) -> bool {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while matches!(container.read_buf(&mut buffer).await, Ok(1..)) {
        if tty && client.write_all(&frame_header(1, buffer.len())).await.is_err() {
            return false;
        }
        if client.write_all(&buffer).await.is_err() || client.flush().await.is_err() {
            return false;
        }
        buffer.clear();
    }
    true
}

/// Frames of the client: input, resizes, signals, to the end of its input. True when the detach keys were typed.
async fn copy_in<R: AsyncRead + Unpin>(
    client: &mut R,
    container: &mut (impl AsyncWrite + Unpin),
    engine: &Engine,
    id: &str,
    mut keys: DetachKeys,
) -> bool {
    let mut header = [0; 8];
    while client.read_exact(&mut header).await.is_ok() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if length > MAX_FRAME_BYTES {
            break;
        }
        let mut payload = vec![0; length as usize];
        if client.read_exact(&mut payload).await.is_err() {
            break;
        }
        match header[0] {
            STDIN => {
                let (bytes, detach) = keys.filter(&payload);
                // A container that does not read its input any more still runs.
                _ = container.write_all(&bytes).await;
                if detach {
                    return true;
                }
            }
            CONTROL => control(engine, id, container, &payload).await,
            _ => {}
        }
    }
    _ = container.shutdown().await;
    false
}

async fn control(engine: &Engine, id: &str, container: &mut (impl AsyncWrite + Unpin), payload: &[u8]) {
    // A frame of a newer client that this engine does not know is skipped.
    let Ok(request) = serde_json::from_slice::<Request>(payload) else { return };
    if let Some((rows, columns)) = request.resize {
        _ = engine.containers.resize(id, rows, columns).await;
    }
    if let Some(signal) = request.signal {
        _ = engine.containers.kill(id, &signal).await;
    }
    if request.close_stdin {
        _ = container.shutdown().await;
    }
}

async fn send<W: AsyncWrite + Unpin>(client: &mut W, control: &Control) -> std::io::Result<()> {
    client.write_all(&control.frame()).await?;
    client.flush().await
}
