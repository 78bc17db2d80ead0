//! Attach and logs.

use bytes::Bytes;
use hoist_api::error::Error;
use hoist_engine::stream::{DetachKeys, pump_attach};
use hoist_engine::{AttachOptions, LogOptions};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::Call;
use super::answer::{self, Answer};
use super::hijack::hijack;
use super::versions::ApiVersion;

pub(super) const RAW: &str = "application/vnd.docker.raw-stream";
pub(super) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// The content type of a container's or exec's stream.
pub(super) fn content_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || !version.names_multiplexing() { RAW } else { MULTIPLEXED }
}

/// `POST /containers/{id}/attach`
pub(super) async fn attach(call: Call) -> Result<Answer, Error> {
    let query = &call.query;
    let keys = DetachKeys::parse(query.get("detachKeys"))?;
    let options =
        AttachOptions { stdin: query.flag("stdin"), stdout: query.flag("stdout"), stderr: query.flag("stderr") };
    let replay = query.flag("logs").then(|| LogOptions {
        stdout: options.stdout,
        stderr: options.stderr,
        ..LogOptions::default()
    });
    let live = query.flag("stream");
    let record = call.engine.containers.record(&call.name)?;
    let tty = record.fixed.config.tty;
    let attachment = if live { Some(call.engine.containers.attach(&call.name, options).await?) } else { None };
    let replayed = match replay {
        Some(options) => Some(call.engine.containers.logs(&call.name, options)?.1),
        None => None,
    };
    let content_type = content_type(tty, call.version);
    Ok(hijack(call.request, content_type, move |mut client, presence| async move {
        presence.head_read().await;
        if let Some(mut chunks) = replayed {
            while let Some(chunk) = chunks.recv().await {
                if client.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            _ = client.flush().await;
        }
        match attachment {
            Some(attachment) => {
                let keys = if tty { keys } else { DetachKeys::none() };
                pump_attach(attachment.stream, client, keys, presence.gone()).await;
            }
            None => _ = client.shutdown().await,
        }
    }))
}

/// `GET /containers/{id}/logs`
pub(super) fn logs(call: &Call) -> Result<Answer, Error> {
    let query = &call.query;
    let tail = match query.get("tail") {
        "" | "all" => None,
        // As dockerd: what is no number, or negative, means everything.
        text => text.parse::<usize>().ok(),
    };
    let options = LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        since_ns: query.time_ns("since")?,
        until_ns: query.time_ns("until")?,
        tail,
    };
    let (record, mut chunks) = call.engine.containers.logs(&call.name, options)?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => if sender.send(Bytes::from(chunk)).await.is_err() { return },
                    None => return,
                },
                // Dropping our receiver tells the reader to stop, also while there is nothing to send.
                () = sender.closed() => return,
            }
        }
    });
    Ok(answer::stream(content_type(record.fixed.config.tty, call.version), receiver))
}
