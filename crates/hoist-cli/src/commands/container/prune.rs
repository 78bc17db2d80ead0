//! `container prune`: removes what is stopped.

use hoist_client::{Client, Request};

use super::super::{Command, prune};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, value},
    opts::filter,
};

const FLAGS: &[Flag] = &[
    value('\0', "filter", "filter", filter::check, "Which to remove (\"until=<timestamp>\")"),
    switch('f', "force", "Do not ask"),
];

pub(crate) const COMMAND: Command =
    Command::action("prune", "Remove the containers that are stopped", "[OPTIONS]", (0, 0), run).flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    prune::run(args, "WARNING! This will remove all stopped containers.", || {
        remove(app.client()?, &prune::filters(app, args))
    })
}

/// Prunes, tells what is gone and returns its bytes.
pub(crate) fn remove(client: &Client, filters: &[String]) -> Outcome<f64> {
    prune::remove(client, Request::post("/containers/prune"), filters, ("Containers", "ContainersDeleted"))
}
