//! `system …`, `version`, `info` and `events`.

pub(super) mod df;
pub(super) mod events;
pub(super) mod info;
pub(super) mod prune;
pub(super) mod version;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[df::COMMAND, events::COMMAND, info::COMMAND, prune::COMMAND];
