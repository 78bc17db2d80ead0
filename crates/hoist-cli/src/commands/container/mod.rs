//! `container …` and its short forms.

pub(super) mod attach;
pub(super) mod commit;
pub(super) mod create;
pub(super) mod diff;
pub(super) mod exec;
pub(super) mod export;
pub(super) mod inspect;
pub(super) mod lifecycle;
pub(super) mod logs;
pub(super) mod ls;
mod peer;
pub(super) mod port;
pub(super) mod prune;
pub(super) mod rename;
pub(super) mod rm;
pub(super) mod run;
pub(super) mod start;
pub(super) mod top;
pub(super) mod update;
pub(super) mod wait;

use hoist_client::query::path_segment;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[
    attach::COMMAND,
    commit::COMMAND,
    create::COMMAND,
    diff::COMMAND,
    exec::COMMAND,
    export::COMMAND,
    inspect::COMMAND,
    lifecycle::KILL,
    logs::COMMAND,
    ls::COMMAND,
    lifecycle::PAUSE,
    port::COMMAND,
    prune::COMMAND,
    rename::COMMAND,
    lifecycle::RESTART,
    rm::COMMAND,
    run::COMMAND,
    start::COMMAND,
    lifecycle::STOP,
    top::COMMAND,
    lifecycle::UNPAUSE,
    update::COMMAND,
    wait::COMMAND,
];

/// `/containers/NAME/what`
pub(crate) fn path(name: &str, what: &str) -> String {
    let slash = if what.is_empty() { "" } else { "/" };
    // a slash in a name would name another route
    format!("/containers/{}{slash}{what}", path_segment(name.trim_start_matches('/')).replace('/', "%2F"))
}
