//! `manifest …`: lists of images for several platforms, made here (`pending`, `list`) and put to a registry. Docker's client
//! speaks to registries itself; this one asks its engine (`remote`).

mod annotate;
mod create;
mod document;
mod inspect;
mod list;
mod pending;
mod push;
mod remote;
mod rm;

use hoist_api::reference::Reference;

use super::Command;
use crate::{
    app::Outcome,
    flags::{Flag, switch},
};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use document::read as read_pending;

pub(super) const COMMANDS: &[Command] =
    &[annotate::COMMAND, create::COMMAND, inspect::COMMAND, push::COMMAND, rm::COMMAND];

const INSECURE: Flag =
    switch('\0', "insecure", "Let the engine speak to the registry by HTTP or without a valid certificate");

/// A reference as it is kept: with a tag or a digest.
fn normalized(text: &str) -> Outcome<Reference> {
    Ok(Reference::parse(text).map_err(|why| why.to_string())?.with_default_tag())
}
