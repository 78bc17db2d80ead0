//! `image …` and its short forms.

pub(super) mod diff;
pub(super) mod history;
pub(super) mod import;
pub(super) mod inspect;
pub(super) mod load;
pub(super) mod ls;
pub(super) mod pin;
pub(super) mod prune;
pub(super) mod pull;
pub(super) mod push;
pub(super) mod rm;
pub(super) mod save;
pub(super) mod tag;
mod tree;
pub(super) mod verify;

use hoist_api::platform::Platform;
use hoist_client::query::path_segment;

use super::Command;
use crate::app::Outcome;

pub(super) const COMMANDS: &[Command] = &[
    diff::COMMAND,
    history::COMMAND,
    import::COMMAND,
    inspect::COMMAND,
    load::COMMAND,
    ls::COMMAND,
    pin::COMMAND,
    pin::UNPIN,
    prune::COMMAND,
    pull::COMMAND,
    push::COMMAND,
    rm::COMMAND,
    save::COMMAND,
    tag::COMMAND,
    verify::COMMAND,
];

/// `/images/NAME/what`
fn path(name: &str, what: &str) -> String {
    let slash = if what.is_empty() { "" } else { "/" };
    format!("/images/{}{slash}{what}", path_segment(name))
}

/// `os/arch[/variant]` as the JSON some routes want.
pub(crate) fn platform_json(text: &str) -> Outcome<String> {
    let platform = Platform::parse(text).map_err(|why| format!("invalid platform: {why}"))?;
    Ok(serde_json::to_string(&platform).map_err(|why| why.to_string())?)
}
