//! `volume prune`: removes volumes nobody uses.

use hoist_client::{Client, Request};
use serde_json::Value;

use super::{Command, confirm};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, value},
    format::units,
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
    let mut filters = filter::of_prune(&args.all("filter"), &app.config().prune_filters);
    let mut warning = "WARNING! This will remove anonymous local volumes not used by at least one container.";
    if args.is("all") {
        if filters.iter().any(|filter| filter.starts_with("all=")) {
            return Err("conflicting options: cannot specify both --all and --filter all=1".into());
        }
        filters.push("all=true".to_owned());
        warning = "WARNING! This will remove all local volumes not used by at least one container.";
    }
    if !args.is("force") && !confirm(warning)? {
        return Ok(());
    }
    let reclaimed = prune(app.client()?, &filters)?;
    println!("Total reclaimed space: {}", units::human_size(reclaimed));
    Ok(())
}

/// Prunes, tells what is gone and returns its bytes.
pub(super) fn prune(client: &Client, filters: &[String]) -> Outcome<f64> {
    let report: Value = client.call(filter::add(Request::post("/volumes/prune"), filters))?.json()?;
    let deleted = report["VolumesDeleted"].as_array().map(Vec::as_slice).unwrap_or_default();
    if deleted.is_empty() {
        return Ok(0.0);
    }
    println!("Deleted Volumes:");
    deleted.iter().filter_map(Value::as_str).for_each(|name| println!("{name}"));
    println!();
    Ok(report["SpaceReclaimed"].as_f64().unwrap_or_default())
}
