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

use hoist_api::{platform::Platform, reference::Reference};
use hoist_client::query::path_segment;

use super::Command;
use crate::{app::Outcome, env, flags::Parsed};

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

/// The platform that images are fetched and made for, of the flag or the environment.
pub(crate) fn wanted_platform(args: &Parsed) -> Option<String> {
    args.get("platform").map(str::to_owned).or_else(env::default_platform).filter(|platform| !platform.is_empty())
}

/// What `pull` and `push` are about: one image, by default its newest, or with `--all-tags` a whole repository.
fn tag_or_repository(args: &Parsed) -> Outcome<Reference> {
    let name = Reference::parse(&args.args[0]).map_err(|why| why.to_string())?;
    match (args.is("all-tags"), name.is_name_only()) {
        (true, false) => Err("tag can't be used with --all-tags/-a".into()),
        (true, true) => Ok(name),
        (false, is_bare) => {
            let name = name.with_default_tag();
            if is_bare && !args.is("quiet") {
                println!("Using default tag: {}", name.tag.as_deref().unwrap_or_default());
            }
            Ok(name)
        }
    }
}
