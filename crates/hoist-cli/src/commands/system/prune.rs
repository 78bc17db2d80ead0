//! `system prune`: removes what nobody uses, of every kind.

use hoist_client::Request;
use serde_json::Value;

use super::super::{Command, confirm, container, image, volume};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, value},
    format::units,
    opts::filter,
};

const FLAGS: &[Flag] = &[
    switch('a', "all", "Remove all unused images, not only those without a name"),
    value('\0', "filter", "filter", filter::check, "Which to remove (\"label=<key>=<value>\")"),
    switch('f', "force", "Do not ask"),
    switch('\0', "volumes", "Remove volumes without a name too"),
];

pub(crate) const COMMAND: Command =
    Command::action("prune", "Remove everything nobody uses", "[OPTIONS]", (0, 0), run).flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let flags = args.all("filter");
    let (all, volumes) = (args.is("all"), args.is("volumes"));
    if volumes && flags.iter().any(|filter| filter.starts_with("until=")) {
        return Err("ERROR: The \"until\" filter is not supported with \"--volumes\"".into());
    }
    let filters = filter::of_prune(&flags, &app.config().prune_filters);
    if !args.is("force") && !confirm(&warning(all, volumes, &filters))? {
        return Ok(());
    }
    let client = app.client()?;
    let mut reclaimed = container::prune::prune(client, &filters)?;
    reclaimed += prune_networks(client, &filters)?;
    if volumes {
        reclaimed += volume::prune(client, &filters)?;
    }
    reclaimed += image::prune::prune(client, all, &filters)?;
    reclaimed += prune_build_cache(client, all, &filters)?;
    println!("Total reclaimed space: {}", units::human_size(reclaimed));
    Ok(())
}

fn warning(all: bool, volumes: bool, filters: &[String]) -> String {
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let mut text = "WARNING! This will remove:\n".to_owned();
    lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
    let mut shown: Vec<&str> = filters.iter().map(String::as_str).collect();
    shown.retain(|filter| ["label=", "label!=", "until="].iter().any(|key| filter.starts_with(key)));
    if !shown.is_empty() {
        shown.sort_unstable();
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        shown.iter().for_each(|filter| text.push_str(&format!("  - {filter}\n")));
    }
    text
}

fn prune_networks(client: &hoist_client::Client, filters: &[String]) -> Outcome<f64> {
    let report: Value = client.call(filter::add(Request::post("/networks/prune"), filters))?.json()?;
    let deleted: Vec<&str> =
        report["NetworksDeleted"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !deleted.is_empty() {
        println!("Deleted Networks:");
        deleted.iter().for_each(|name| println!("{name}"));
        println!();
    }
    Ok(0.0)
}

fn prune_build_cache(client: &hoist_client::Client, all: bool, filters: &[String]) -> Outcome<f64> {
    let request = Request::post("/build/prune").switch("all", all);
    let report: Value = client.call(filter::add(request, filters))?.json()?;
    let deleted: Vec<&str> =
        report["CachesDeleted"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !deleted.is_empty() {
        println!("Deleted build cache objects:");
        deleted.iter().for_each(|id| println!("{id}"));
        println!();
    }
    Ok(report["SpaceReclaimed"].as_f64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_what_goes() {
        let text = "WARNING! This will remove:\n  - all stopped containers\n  \
            - all networks not used by at least one container\n  - all dangling images\n  - unused build cache\n";
        assert_eq!(warning(false, false, &[]), text);
        let text = warning(true, true, &["until=10h", "label=x", "other=y"].map(str::to_owned));
        assert!(text.contains("  - all anonymous volumes not used by at least one container\n"));
        assert!(text.ends_with(
            "  - all build cache\n\n  Items to be pruned will be filtered with:\n  - label=x\n  - until=10h\n"
        ));
    }
}
