//! `container prune`: removes what is stopped.

use hoist_client::{Client, Request};
use serde_json::Value;

use super::super::{Command, confirm};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, value},
    format::units,
    opts::filter,
};

const FLAGS: &[Flag] = &[
    value('\0', "filter", "filter", filter::check, "Which to remove (\"until=<timestamp>\")"),
    switch('f', "force", "Do not ask"),
];

pub(crate) const COMMAND: Command =
    Command::action("prune", "Remove the containers that are stopped", "[OPTIONS]", (0, 0), run).flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let warning = "WARNING! This will remove all stopped containers.";
    if !args.is("force") && !confirm(warning)? {
        return Ok(());
    }
    let filters = filter::of_prune(&args.all("filter"), &app.config().prune_filters);
    let reclaimed = prune(app.client()?, &filters)?;
    println!("Total reclaimed space: {}", units::human_size(reclaimed));
    Ok(())
}

/// Prunes, tells what is gone and returns its bytes.
pub(crate) fn prune(client: &Client, filters: &[String]) -> Outcome<f64> {
    let report: Value = client.call(filter::add(Request::post("/containers/prune"), filters))?.json()?;
    let deleted: Vec<&str> =
        report["ContainersDeleted"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if deleted.is_empty() {
        return Ok(0.0);
    }
    println!("Deleted Containers:");
    deleted.iter().for_each(|id| println!("{id}"));
    println!();
    Ok(report["SpaceReclaimed"].as_f64().unwrap_or_default())
}
