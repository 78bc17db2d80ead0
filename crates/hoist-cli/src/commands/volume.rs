//! `volume prune`: removes volumes nobody uses.

use hoist_client::{Client, Request};

use super::{Command, prune};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, value},
    opts::filter,
};

const FLAGS: &[Flag] = &[
    switch('a', "all", "Remove all unused volumes, not only those without a name"),
    value('\0', "filter", "filter", filter::check, "Which to remove (\"label=<label>\")"),
    switch('f', "force", "Do not ask"),
];

pub(super) const PRUNE: Command =
    Command::action("prune", "Remove local volumes nobody uses", "[OPTIONS]", (0, 0), run).flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let mut filters = prune::filters(app, args);
    let mut warning = "WARNING! This will remove anonymous local volumes not used by at least one container.";
    if args.is("all") {
        if filters.iter().any(|filter| filter.starts_with("all=")) {
            return Err("conflicting options: cannot specify both --all and --filter all=1".into());
        }
        filters.push("all=true".to_owned());
        warning = "WARNING! This will remove all local volumes not used by at least one container.";
    }
    prune::run(args, warning, || remove(app.client()?, &filters))
}

/// Prunes, tells what is gone and returns its bytes.
pub(super) fn remove(client: &Client, filters: &[String]) -> Outcome<f64> {
    prune::remove(client, Request::post("/volumes/prune"), filters, ("Volumes", "VolumesDeleted"))
}
