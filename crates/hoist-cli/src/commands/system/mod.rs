//! `system …`, `version`, `info` and `events`.

pub(super) mod events;
pub(super) mod info;
pub(super) mod version;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[events::COMMAND, info::COMMAND];
