//! `image prune`.

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
    switch('a', "all", "Remove all unused images, not only those without a name"),
    value('\0', "filter", "filter", filter::check, "Which to remove (\"until=<timestamp>\")"),
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
    if !args.is("force") && !confirm(warning)? {
        return Ok(());
    }
    let mut filters = args.owned("filter");
    filters.push(format!("dangling={}", !all));
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let report: Value = app.client()?.call(filter::add(Request::post("/images/prune"), &filters))?.json()?;
    let deleted = report["ImagesDeleted"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !deleted.is_empty() {
        println!("Deleted Images:");
        for item in deleted {
            super::rm::print_item(item, true);
        }
        println!();
    }
    println!("Total reclaimed space: {}", units::human_size(report["SpaceReclaimed"].as_f64().unwrap_or_default()));
    Ok(())
}
