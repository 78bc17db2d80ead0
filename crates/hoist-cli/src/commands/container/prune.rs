//! `container prune`: removes what is stopped.

use hoist_client::Request;
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
    let request = filter::add(Request::post("/containers/prune"), &args.all("filter"));
    let report: Value = app.client()?.call(request)?.json()?;
    let deleted: Vec<&str> =
        report["ContainersDeleted"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !deleted.is_empty() {
        println!("Deleted Containers:");
        deleted.iter().for_each(|id| println!("{id}"));
        println!();
    }
    println!("Total reclaimed space: {}", units::human_size(report["SpaceReclaimed"].as_f64().unwrap_or_default()));
    Ok(())
}
