//! Hoist's own one-request run, `POST /hoist/run`: create, attach, start and wait in one hijacked exchange; detached it is
//! create and start, answered by one [`Control`] as the body.
//!
//! Frames in both directions are `[kind, 0, 0, 0, length as big-endian u32]` and `length` bytes.
//!
//! And the one-request exec, `POST /hoist/containers/{id}/exec`, for processes without a terminal: the body is Docker's
//! exec body, input is plain bytes, output is in frames of which the last is a [`Control`] with the exit code.

use serde::{Deserialize, Serialize};

use crate::container::CreateBody;

/// Frame kinds: the first three are Docker's.
pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// A JSON [`Control`] (engine to client) or [`Request`] (client to engine).
pub const CONTROL: u8 = 16;

/// Header that names the container when the run failed after it was created.
pub const CONTAINER_HEADER: &str = "X-Hoist-Container";

/// Body: Docker's create body and what else `run` needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunBody {
    #[serde(flatten)]
    pub create: CreateBody,
    #[serde(rename = "HoistRun")]
    pub run: RunOptions,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunOptions {
    /// Of `stdin`, `stdout`, `stderr`.
    pub attach: Vec<String>,
    pub detach_keys: String,
    /// (rows, columns)
    pub tty_size: Option<(u16, u16)>,
    /// Nobody attaches, nobody waits.
    pub detach: bool,
    /// Report where the time went ([`Control::timing`]).
    pub timing: bool,
}

/// Engine to client.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Control {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The client typed the detach keys: the container goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// (phase, nanoseconds)
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timing: Vec<(String, u64)>,
}

impl Control {
    /// With its frame's header.
    pub fn frame(&self) -> Vec<u8> {
        // A struct of plain fields always encodes.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut frame = vec![CONTROL, 0, 0, 0];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&payload);
        frame
    }
}

/// Client to engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<(u16, u16)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub close_stdin: bool,
}
