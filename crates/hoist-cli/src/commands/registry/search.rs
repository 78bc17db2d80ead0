//! `search`: repositories of Docker Hub, or of the registry that the term names.

use hoist_api::reference::DEFAULT_DOMAIN;
use hoist_client::Request;
use serde_json::Value;

use super::super::{Command, FORMAT_HELP};
use crate::{
    app::{App, Outcome},
    credentials,
    flags::{Flag, Parsed, check, switch, text, value},
    format::{
        list::{self, Row},
        text::ellipsis,
    },
    opts::filter,
    template::Val,
};

const FLAGS: &[Flag] = &[
    value('f', "filter", "filter", filter::check, "Show only what fulfils the conditions"),
    text('\0', "format", FORMAT_HELP),
    value('\0', "limit", "int", check::int, "Show so many at most"),
    switch('\0', "no-trunc", "Do not shorten output"),
];

pub(crate) const COMMAND: Command =
    Command::action("search", "Search Docker Hub, or another registry, for images", "[OPTIONS] TERM", (1, 1), run)
        .flags(&[FLAGS]);

const TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

fn run(app: &App, args: &Parsed) -> Outcome {
    let (term, filters) = (args.args[0].as_str(), args.all("filter"));
    if filters.iter().any(|filter| filter.trim_start().starts_with("is-automated")) {
        eprintln!(
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not \
             yield any results in future."
        );
    }
    let mut request = filter::add(Request::get("/images/search").query("term", term), &filters);
    if let Some(limit) = args.int("limit").filter(|limit| *limit > 0) {
        request = request.query("limit", limit.to_string());
    }
    if let Some(auth) = credentials::header_for(app, registry_of(term)) {
        request = request.header(credentials::HEADER, auth);
    }
    let results: Vec<Value> = app.client()?.call(request)?.json()?;
    let format = match args.text("format") {
        "" | "table" => TABLE,
        custom => custom,
    };
    let as_json = format == "json" || format.contains("json .");
    let trunc = !args.is("no-trunc");
    list::print(format, results.into_iter().map(|item| Found { item, trunc, as_json }))
}

/// The registry whose credentials a search wants.
fn registry_of(term: &str) -> &str {
    let named = term.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
    named.map_or(DEFAULT_DOMAIN, |(host, _)| host)
}

struct Found {
    item: Value,
    trunc: bool,
    /// In JSON a mark is a word.
    as_json: bool,
}

impl Row for Found {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")];
    const TYPE_NAME: &'static str = "*registry.searchContext";

    fn column(&self, name: &str) -> Option<Val> {
        Some(Val::text(match name {
            "Name" => self.item["name"].as_str().unwrap_or_default().to_owned(),
            "Description" => {
                let text = self.item["description"].as_str().unwrap_or_default().replace(['\n', '\r'], " ");
                if self.trunc { ellipsis(&text, 45) } else { text }
            }
            "StarCount" => self.item["star_count"].as_i64().unwrap_or_default().to_string(),
            "IsOfficial" => match (self.item["is_official"].as_bool().unwrap_or_default(), self.as_json) {
                (is_official, true) => is_official.to_string(),
                (true, false) => "[OK]".to_owned(),
                (false, false) => String::new(),
            },
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_the_registry_that_is_asked() {
        let cases = [("busybox", "docker.io"), ("me/x", "docker.io"), ("r:5/x", "r:5"), ("localhost/x", "localhost")];
        for (term, registry) in cases {
            assert_eq!(registry_of(term), registry);
        }
    }
}
