//! What all prunes have in common: asking first, and telling what went and how much space it took.

use hoist_client::{Client, Request};
use serde_json::Value;

use super::confirm;
use crate::{
    app::{App, Outcome},
    flags::Parsed,
    format::units,
    opts::filter,
};

/// The filters of a prune: those of its flags and those of `config.json`.
pub(super) fn filters(app: &App, args: &Parsed) -> Vec<String> {
    filter::of_prune(&args.all("filter"), &app.config().prune_filters)
}

/// Asks unless `--force` is given, removes, and prints how many bytes `remove` says went.
pub(super) fn run(args: &Parsed, warning: &str, remove: impl FnOnce() -> Outcome<f64>) -> Outcome {
    if args.is("force") || confirm(warning)? {
        println!("Total reclaimed space: {}", units::human_size(remove()?));
    }
    Ok(())
}

/// Has one kind of objects pruned and prints those that the answer names under `key`. Returns the bytes that went.
pub(super) fn remove(
    client: &Client,
    request: Request,
    filters: &[String],
    (title, key): (&str, &str),
) -> Outcome<f64> {
    let report: Value = client.call(filter::add(request, filters))?.json()?;
    let deleted: Vec<&str> = report[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !deleted.is_empty() {
        println!("Deleted {title}:");
        deleted.iter().for_each(|name| println!("{name}"));
        println!();
    }
    Ok(report["SpaceReclaimed"].as_f64().unwrap_or_default())
}
