//! `image …` and its short forms.

pub(super) mod history;
pub(super) mod import;
pub(super) mod inspect;
pub(super) mod load;
pub(super) mod ls;
pub(super) mod prune;
pub(super) mod pull;
pub(super) mod rm;
pub(super) mod tag;

use hoist_client::query::path_segment;
use serde_json::json;

use super::Command;
use crate::app::Outcome;

pub(super) const COMMANDS: &[Command] = &[
    history::COMMAND,
    import::COMMAND,
    inspect::COMMAND,
    load::COMMAND,
    ls::COMMAND,
    prune::COMMAND,
    pull::COMMAND,
    rm::COMMAND,
    tag::COMMAND,
];

/// `/images/NAME/what`
fn path(name: &str, what: &str) -> String {
    let slash = if what.is_empty() { "" } else { "/" };
    format!("/images/{}{slash}{what}", path_segment(name))
}

/// `os/arch[/variant]` as the JSON some routes want.
pub(crate) fn platform_json(text: &str) -> Outcome<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let is_word =
        |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if parts.is_empty() || parts.len() > 3 || !parts.iter().all(is_word) {
        return Err(format!("invalid platform: {text:?}: must be os[/arch[/variant]]").into());
    }
    let mut platform = json!({"os": parts[0], "architecture": parts.get(1).copied().unwrap_or("amd64")});
    if let Some(variant) = parts.get(2) {
        platform["variant"] = (*variant).into();
    }
    Ok(platform.to_string())
}
