//! JSON progress streams (moby's jsonmessage): one object a line, errors in-band once something was said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hoist_api::error::Error;
use hoist_image::{Progress, ProgressSink, Pushed};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Answer, answer};

/// So many lines may wait for the client before byte counts are left out.
const LAG_MAX: usize = 256;

/// The writing end of a JSON progress stream. Writing never waits: a client that reads slowly must not hold up a pull that
/// others share.
#[derive(Clone)]
pub(super) struct Out {
    lines: mpsc::UnboundedSender<Line>,
    /// Written and not yet taken by the client.
    waiting: Arc<AtomicUsize>,
}

/// The reading end.
pub(super) struct Lines {
    lines: mpsc::UnboundedReceiver<Line>,
    waiting: Arc<AtomicUsize>,
}

/// A line, or the failure that may still become a plain HTTP error if it comes first.
enum Line {
    Json(Bytes),
    Failed(Error),
}

impl Line {
    fn into_bytes(self) -> Bytes {
        match self {
            Line::Json(bytes) => bytes,
            Line::Failed(error) => encode(&json!({"errorDetail": {"message": error.message}, "error": error.message})),
        }
    }
}

impl Out {
    pub(super) fn json(&self, value: &Value) {
        self.put(Line::Json(encode(value)));
    }

    pub(super) fn error(&self, error: Error) {
        self.put(Line::Failed(error));
    }

    pub(super) async fn closed(&self) {
        self.lines.closed().await;
    }

    /// Byte counts are left out while the client lags, since later ones say the same; words stay, in their order.
    fn progress(&self, progress: &Progress) {
        if progress.detail.is_none() || self.waiting.load(Ordering::Relaxed) < LAG_MAX {
            self.json(&progress_json(progress));
        }
    }

    fn put(&self, line: Line) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Nobody reads any more: the client has left.
        _ = self.lines.send(line);
    }
}

impl Lines {
    async fn next(&mut self) -> Option<Line> {
        let line = self.lines.recv().await?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(line)
    }
}

fn encode(value: &Value) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.extend_from_slice(b"\r\n");
    Bytes::from(bytes)
}

pub(super) fn progress_stream() -> (Out, ProgressSink, Lines) {
    let (lines, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let out = Out { lines, waiting: waiting.clone() };
    let sink = out.clone();
    (out, Arc::new(move |progress: Progress| sink.progress(&progress)), Lines { lines: receiver, waiting })
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
pub(super) async fn first_or_error(mut lines: Lines) -> Result<Answer, Error> {
    match lines.next().await {
        Some(Line::Failed(error)) => Err(error),
        first => Ok(forward(first, lines)),
    }
}

/// Every failure goes in-band, as those of `load` do; the answer begins with the first line.
pub(super) async fn in_band(mut lines: Lines) -> Answer {
    let first = lines.next().await;
    forward(first, lines)
}

/// An answer of this line and what follows it.
fn forward(first: Option<Line>, mut lines: Lines) -> Answer {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut line = first;
        while let Some(this) = line {
            if sender.send(this.into_bytes()).await.is_err() {
                return;
            }
            line = tokio::select! {
                next = lines.next() => next,
                () = sender.closed() => return,
            };
        }
    });
    answer::stream("application/json", receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_keep_their_order_and_only_byte_counts_are_left_out_for_a_slow_reader() {
        let (out, sink, mut lines) = progress_stream();
        let words = |text: String| Progress { status: Some(text), ..Progress::default() };
        for count in 0..2 * LAG_MAX {
            sink(words(format!("word {count}")));
            sink(Progress { detail: Some((count as u64, 0)), ..words("bytes".into()) });
        }
        drop((out, sink));
        let (mut next, mut counts) = (0, 0);
        while let Some(Line::Json(bytes)) = lines.next().await {
            let line: Value = serde_json::from_slice(&bytes).unwrap();
            if line["status"] == "bytes" {
                counts += 1;
            } else {
                assert_eq!(line["status"], format!("word {next}"));
                next += 1;
            }
        }
        assert_eq!(next, 2 * LAG_MAX);
        assert!(counts < LAG_MAX, "{counts} byte counts waited");
    }
}
