//! One side of a comparison: a client and the engine it talks to.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// What a side's client is, where its words differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hoist,
    Docker,
    Podman,
}

pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The program and the words before its command.
    words: Vec<OsString>,
    /// The engine's address; podman has none.
    host: Option<String>,
}

impl Side {
    pub(super) fn of_host(name: &'static str, kind: Kind, client: &Path, host: &str) -> Self {
        Self { name, kind, words: vec![client.into()], host: Some(host.to_owned()) }
    }

    /// `words`: how podman is started here, such as `podman --runtime runc`.
    pub(super) fn podman(words: &str) -> Result<Self> {
        let words: Vec<OsString> = words.split_whitespace().map(Into::into).collect();
        words.first().context("HOIST_BENCH_PODMAN is empty")?;
        Ok(Self { name: "podman", kind: Kind::Podman, words, host: None })
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(arguments).stdin(Stdio::null()).env("DOCKER_CONFIG", "/nonexistent");
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host).env("HOIST_HOST", host);
        }
        command
    }
}
