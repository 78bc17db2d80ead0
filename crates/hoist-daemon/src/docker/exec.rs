//! `/exec/…`

use hoist_api::error::Error;
use hoist_api::exec::{ExecCreate, ExecCreated, ExecStart};
use hoist_api::run::{Control, STDOUT};
use hoist_engine::stream::{DetachKeys, frame_header};
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;

use super::Call;
use super::answer::{self, Answer};
use super::hijack::hijack;
use super::streams::{RAW, content_type};

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
        let started = engine.execs.start(&id, &body).await;
        presence.head_read().await;
        match started {
            Ok(stream) => {
                let keys = if tty { keys } else { DetachKeys::none() };
                stream.named(&id).pump(client, keys, presence.gone(), |_| Vec::new()).await;
            }
            Err(error) => {
                _ = client.write_all(&refusal(&error, tty)).await;
                _ = client.shutdown().await;
            }
        }
    }))
}

/// What is seen in the stream of a command that cannot be executed, as dockerd writes it.
fn refusal(error: &Error, tty: bool) -> Vec<u8> {
    let text = format!("{}\r\n", error.message);
    let mut bytes = if tty { Vec::new() } else { frame_header(STDOUT, text.len()).to_vec() };
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// All of it in one exchange (`hoist_api::run`).
pub(super) async fn run(mut call: Call) -> Result<Answer, Error> {
    let body: ExecCreate = call.json().await?;
    if body.tty || body.detach {
        return Err(Error::invalid(
            "an exec with a terminal, or detached, is created and started by Docker's requests",
        ));
    }
    let engine = call.engine.clone();
    let id = engine.execs.create(&call.name, body)?;
    // On its way before the client hears of it, which then has nothing to do but wait.
    let launched = engine.execs.launch(&id, &ExecStart::default()).await;
    Ok(hijack(call.request, RAW, move |mut client, presence| async move {
        let started = match launched {
            Ok(launched) => launched.started().await,
            Err(error) => Err(error),
        };
        match started {
            Ok(stream) => stream.pump(client, DetachKeys::none(), presence.gone(), last_frame).await,
            Err(error) => {
                let mut bytes = refusal(&error, false);
                bytes.extend(last_frame(engine.execs.inspect(&id).ok().and_then(|exec| exec.exit_code)));
                _ = client.write_all(&bytes).await;
                _ = client.shutdown().await;
            }
        }
    }))
}

fn last_frame(exit_code: Option<i32>) -> Vec<u8> {
    Control { exit_code: exit_code.map(i64::from), ..Control::default() }.frame()
}

pub(super) fn inspect(call: &Call) -> Result<Answer, Error> {
    answer::ok(&call.engine.execs.inspect(&call.name)?)
}

pub(super) async fn resize(call: &Call) -> Result<Answer, Error> {
    call.engine.execs.resize(&call.name, call.query.size("h")?, call.query.size("w")?).await?;
    Ok(answer::status(StatusCode::OK))
}
