//! What a pull, push, load or import says while it works.

use std::sync::Arc;

/// Field by field Docker's JSON progress message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Layer short id or tag.
    pub id: Option<String>,
    pub status: Option<String>,
    pub stream: Option<String>,
    /// (current bytes, total bytes or 0)
    pub detail: Option<(u64, u64)>,
    /// What a push put at the registry: the message's `aux`.
    pub pushed: Option<Pushed>,
}

/// A manifest that a registry has under a tag now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub tag: String,
    pub digest: String,
    pub size_bytes: u64,
}

/// Receives progress; called from several tasks.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

impl Progress {
    pub(crate) fn status(id: Option<&str>, status: impl Into<String>) -> Progress {
        Progress { id: id.map(str::to_owned), status: Some(status.into()), ..Progress::default() }
    }

    pub(crate) fn stream(text: String) -> Progress {
        Progress { stream: Some(text), ..Progress::default() }
    }

    pub(crate) fn bytes(id: &str, status: &str, current: u64, total: u64) -> Progress {
        Progress { detail: Some((current, total)), ..Progress::status(Some(id), status) }
    }
}
