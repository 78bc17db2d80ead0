//! `/exec/…`

use hoist_api::error::Error;
use hoist_api::exec::{ExecCreate, ExecCreated, ExecStart};
use hoist_engine::stream::{DetachKeys, frame_header};
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;

use super::Call;
use super::answer::{self, Answer};
use super::hijack::hijack;
use super::streams::content_type;

pub(super) async fn create(mut call: Call) -> Result<Answer, Error> {
    let body: ExecCreate = call.json().await?;
    DetachKeys::parse(&body.detach_keys)?;
    let id = call.engine.execs.create(&call.name, body)?;
    answer::json(StatusCode::CREATED, &ExecCreated { id })
}

/// Detached: answers when the command runs. Attached: upgrades first; a command that cannot be executed is told in the
/// stream, as dockerd does.
pub(super) async fn start(mut call: Call) -> Result<Answer, Error> {
    let body: ExecStart = call.json().await?;
    let inspected = call.engine.execs.inspect(&call.name)?;
    let engine = call.engine.clone();
    let id = call.name.clone();
    if body.detach {
        let stream = engine.execs.start(&id, &body).await?;
        tokio::spawn(stream.named(&id).hold());
        return Ok(answer::status(StatusCode::OK));
    }
    engine.containers.record(&inspected.container_id)?;
    let tty = inspected.process_config.tty;
    let keys = DetachKeys::parse(&inspected.detach_keys)?;
    let content_type = content_type(tty, call.version);
    Ok(hijack(call.request, content_type, move |mut client, presence| async move {
        match engine.execs.start(&id, &body).await {
            Ok(stream) => {
                let keys = if tty { keys } else { DetachKeys::none() };
                stream.named(&id).pump(client, keys, presence.gone()).await;
            }
            Err(error) => {
                let text = format!("{}\r\n", error.message);
                if !tty {
                    _ = client.write_all(&frame_header(1, text.len())).await;
                }
                _ = client.write_all(text.as_bytes()).await;
                _ = client.shutdown().await;
            }
        }
    }))
}

pub(super) fn inspect(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.execs.inspect(&call.name)?)
}

pub(super) async fn resize(call: &Call) -> Result<Answer, Error> {
    call.engine.execs.resize(&call.name, call.query.size("h")?, call.query.size("w")?).await?;
    Ok(answer::status(StatusCode::OK))
}
