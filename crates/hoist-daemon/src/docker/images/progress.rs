//! JSON progress streams (moby's jsonmessage): one object a line, errors in-band once something was said.

use std::sync::Arc;

use bytes::Bytes;
use hoist_api::error::Error;
use hoist_image::{Progress, ProgressSink, Pushed};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Answer, answer};

/// The writing end of a JSON progress stream.
#[derive(Clone)]
pub(super) struct Out {
    lines: mpsc::Sender<Line>,
}

/// A line, or the failure that may still become a plain HTTP error if it comes first.
pub(super) enum Line {
    Json(Bytes),
    Failed(Error),
}

impl Out {
    pub(super) async fn error(&self, error: &Error) {
        _ = self.lines.send(Line::Failed(error.clone())).await;
    }

    pub(super) async fn closed(&self) {
        self.lines.closed().await;
    }

    pub(super) fn send_blocking(&self, line: Line) {
        _ = self.lines.blocking_send(line);
    }
}

pub(super) fn encode(value: &Value) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.extend_from_slice(b"\r\n");
    Bytes::from(bytes)
}

pub(super) fn progress_stream() -> (Out, ProgressSink, mpsc::Receiver<Line>) {
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
    if let Some(Pushed { tag, digest, size_bytes }) = &progress.pushed {
        object.insert("progressDetail".to_owned(), json!({}));
        object.insert("aux".to_owned(), json!({"Tag": tag, "Digest": digest, "Size": size_bytes}));
    }
    if let Some(id) = &progress.id {
        object.insert("id".to_owned(), id.clone().into());
    }
    Value::Object(object)
}

/// A failure before the first line is a plain HTTP error; later ones go in-band.
pub(super) async fn first_or_error(mut lines: mpsc::Receiver<Line>) -> Result<Answer, Error> {
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
