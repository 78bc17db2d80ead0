//! `system prune`: removes what nobody uses, of every kind.

use hoist_client::{Client, Request};

use super::super::{Command, container, image, prune, volume};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, value},
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
    let (all, volumes) = (args.is("all"), args.is("volumes"));
    if volumes && args.all("filter").iter().any(|filter| filter.starts_with("until=")) {
        return Err("ERROR: The \"until\" filter is not supported with \"--volumes\"".into());
    }
    let filters = prune::filters(app, args);
    prune::run(args, &warning(all, volumes, &filters), || remove(app.client()?, all, volumes, &filters))
}

fn remove(client: &Client, all: bool, volumes: bool, filters: &[String]) -> Outcome<f64> {
    let mut reclaimed = container::prune::remove(client, filters)?;
    reclaimed += prune::remove(client, Request::post("/networks/prune"), filters, ("Networks", "NetworksDeleted"))?;
    if volumes {
        reclaimed += volume::remove(client, filters)?;
    }
    reclaimed += image::prune::remove(client, all, filters)?;
    let build_cache = Request::post("/build/prune").switch("all", all);
    reclaimed += prune::remove(client, build_cache, filters, ("build cache objects", "CachesDeleted"))?;
    Ok(reclaimed)
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
