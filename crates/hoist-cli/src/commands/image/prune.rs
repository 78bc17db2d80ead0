//! `image prune`.

use hoist_client::{Client, Request};
use serde_json::Value;

use super::super::{Command, prune};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, value},
    opts::filter,
};

const FLAGS: &[Flag] = &[
    switch('a', "all", "Remove all unused images, not only those without a name"),
    value(
        '\0',
        "filter",
        "filter",
        filter::check,
        "Which to remove (\"until=<timestamp>\", \"unused-for=<duration>\")",
    ),
    switch('f', "force", "Do not ask"),
];

pub(crate) const COMMAND: Command =
    Command::action("prune", "Remove images nobody uses", "[OPTIONS]", (0, 0), run).flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let all = args.is("all");
    let warning = match all {
        true => "WARNING! This will remove all images without at least one container associated to them.",
        false => "WARNING! This will remove all dangling images.",
    };
    prune::run(args, warning, || remove(app.client()?, all, &prune::filters(app, args)))
}

/// Prunes, tells what is gone and returns its bytes.
pub(crate) fn remove(client: &Client, all: bool, filters: &[String]) -> Outcome<f64> {
    let dangling = format!("dangling={}", !all);
    let filters: Vec<&str> = filters.iter().map(String::as_str).chain([dangling.as_str()]).collect();
    let report: Value = client.call(filter::add(Request::post("/images/prune"), &filters))?.json()?;
    let pinned = report["Hoist"]["Pinned"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !pinned.is_empty() {
        println!("Pinned, so kept:");
        pinned.iter().filter_map(Value::as_str).for_each(|name| println!("{name}"));
        println!();
    }
    let deleted = report["ImagesDeleted"].as_array().map(Vec::as_slice).unwrap_or_default();
    if deleted.is_empty() {
        return Ok(0.0);
    }
    println!("Deleted Images:");
    for item in deleted {
        super::rm::print_item(item, true);
    }
    println!();
    Ok(report["SpaceReclaimed"].as_f64().unwrap_or_default())
}
