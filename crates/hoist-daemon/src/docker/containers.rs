//! `/containers/…` without streams.

use bytes::Bytes;
use hoist_api::container::{CreateBody, CreateResponse, UpdateResponse, WaitResponse};
use hoist_api::error::Error;
use hoist_api::filters::Filters;
use hoist_api::host_config::UpdateBody;
use hoist_engine::{CONTAINER_FILTER_KEYS, CreateRequest, ListOptions, WaitCondition};
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::Call;
use super::answer::{self, Answer, no_content};

/// Runs blocking work off the serving threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(format!("the request's work failed: {e}")))?
}

pub(super) fn list(call: &Call) -> Result<Answer, Error> {
    let query = &call.query;
    let options = ListOptions {
        all: query.flag("all"),
        limit: query.integer("limit")?.unwrap_or(0),
        size: query.flag("size"),
        filters: Filters::parse(query.get("filters"), &CONTAINER_FILTER_KEYS)?,
    };
    answer::ok(&call.engine.containers.list(&options)?)
}

pub(super) async fn create(mut call: Call) -> Result<Answer, Error> {
    let body = call.body().await?;
    if body.is_empty() {
        return Err(Error::invalid("invalid JSON: got EOF while reading request body"));
    }
    let body: CreateBody = hoist_api::decode::from_slice(&body)?;
    let request = CreateRequest {
        name: call.query.get("name").to_owned(),
        platform: call.query.get("platform").to_owned(),
        body,
    };
    let (id, warnings) = call.engine.containers.create(request, hoist_engine::Recording::Now)?;
    answer::json(StatusCode::CREATED, &CreateResponse { id, warnings })
}

pub(super) fn inspect(call: &Call) -> Result<Answer, Error> {
    let found = call.engine.containers.inspect(&call.name, call.query.flag("size"))?;
    let mut value = serde_json::to_value(&found).map_err(|e| Error::internal(e.to_string()))?;
    call.version.container(&mut value);
    answer::ok(&value)
}

pub(super) async fn start(mut call: Call) -> Result<Answer, Error> {
    if !call.query.get("checkpoint").is_empty() {
        return Err(Error::not_implemented("checkpoints: not implemented by this engine yet"));
    }
    if call.body().await?.len() > 7 {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    call.engine.containers.start(&call.name).await?;
    Ok(no_content())
}

pub(super) async fn stop(call: &Call) -> Result<Answer, Error> {
    let (timeout_s, signal) = (call.query.integer("t")?, call.query.get("signal"));
    call.engine.containers.stop(&call.name, timeout_s, Some(signal)).await?;
    Ok(no_content())
}

pub(super) async fn restart(call: &Call) -> Result<Answer, Error> {
    let (timeout_s, signal) = (call.query.integer("t")?, call.query.get("signal"));
    call.engine.containers.restart(&call.name, timeout_s, Some(signal)).await?;
    Ok(no_content())
}

pub(super) async fn kill(call: &Call) -> Result<Answer, Error> {
    call.engine.containers.kill(&call.name, call.query.get("signal")).await?;
    Ok(no_content())
}

/// Headers go out at once: clients send `start` only after they have seen them.
pub(super) fn wait(call: &Call) -> Result<Answer, Error> {
    let condition = WaitCondition::parse(call.query.get("condition"))?;
    let waiting = call.engine.containers.wait(&call.name, condition)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let record = tokio::select! {
            record = waiting => record,
            () = sender.closed() => return,
        };
        // A failed start is told by the request that started; dockerd puts it into no wait's answer.
        let answer = WaitResponse { status_code: i64::from(record.state.exit_code), error: None };
        if let Ok(mut bytes) = serde_json::to_vec(&answer) {
            bytes.push(b'\n');
            _ = sender.send(Bytes::from(bytes)).await;
        }
    });
    Ok(answer::stream("application/json", receiver))
}

pub(super) async fn remove(call: &Call) -> Result<Answer, Error> {
    if call.query.flag("link") {
        call.engine.containers.remove_link(&call.name).await?;
        return Ok(no_content());
    }
    call.engine.containers.remove(&call.name, call.query.flag("force"), call.query.flag("v")).await?;
    Ok(no_content())
}

pub(super) async fn resize(call: &Call) -> Result<Answer, Error> {
    call.engine.containers.resize(&call.name, call.query.size("h")?, call.query.size("w")?).await?;
    Ok(answer::status(StatusCode::OK))
}

pub(super) async fn top(call: &Call) -> Result<Answer, Error> {
    let (containers, name) = (call.engine.containers.clone(), call.name.clone());
    let arguments = call.query.get("ps_args").to_owned();
    answer::ok(&blocking(move || containers.top(&name, &arguments)).await?)
}

pub(super) async fn changes(call: &Call) -> Result<Answer, Error> {
    let (containers, name) = (call.engine.containers.clone(), call.name.clone());
    let changes = blocking(move || containers.changes(&name)).await?;
    answer::ok(&(!changes.is_empty()).then_some(changes))
}

pub(super) async fn pause(call: &Call) -> Result<Answer, Error> {
    call.engine.containers.pause(&call.name).await?;
    Ok(no_content())
}

pub(super) async fn unpause(call: &Call) -> Result<Answer, Error> {
    call.engine.containers.unpause(&call.name).await?;
    Ok(no_content())
}

pub(super) async fn rename(call: &Call) -> Result<Answer, Error> {
    call.engine.containers.rename(&call.name, call.query.get("name")).await?;
    Ok(no_content())
}

pub(super) async fn update(mut call: Call) -> Result<Answer, Error> {
    let body: UpdateBody = call.json().await?;
    let warnings = call.engine.containers.update(&call.name, &body).await?;
    answer::ok(&UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) })
}

pub(super) async fn prune(call: &Call) -> Result<Answer, Error> {
    let filters = Filters::parse(call.query.get("filters"), &["label", "label!", "until"])?;
    answer::ok(&call.engine.containers.prune(&filters).await?)
}
