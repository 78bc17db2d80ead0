//! `history`: the steps that made an image.

use hoist_client::Request;
use serde_json::Value;

use super::{
    super::{Command, FORMAT_HELP},
    path, platform_json,
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, text},
    format::{
        list::{self, Row},
        text::{ellipsis, short_id},
        time, units,
    },
    template::Val,
};

const FLAGS: &[Flag] = &[
    text('\0', "format", FORMAT_HELP),
    switch('H', "human", "Print sizes and dates for people").or("true"),
    switch('\0', "no-trunc", "Do not shorten output"),
    text('\0', "platform", "History of this platform's image (\"os[/arch[/variant]]\")"),
    switch('q', "quiet", "Show IDs only"),
];

pub(crate) const COMMAND: Command =
    Command::action("history", "Show the steps that made an image", "[OPTIONS] IMAGE", (1, 1), run)
        .flags(&[FLAGS])
        .aliases(&["image history", "history"]);

const TABLE: &str = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const EXACT_TABLE: &str = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

fn run(app: &App, args: &Parsed) -> Outcome {
    let mut request = Request::get(path(&args.args[0], "history"));
    if let Some(platform) = args.filled("platform") {
        request = request.query("platform", platform_json(platform)?);
    }
    let layers: Vec<Value> = app.client()?.call(request)?.json()?;
    let human = args.is_or("human", true);
    let format = match args.text("format") {
        "" | "table" if args.is("quiet") => "{{.ID}}",
        "" | "table" if !human => EXACT_TABLE,
        "" | "table" => TABLE,
        custom => custom,
    };
    let trunc = !args.is("no-trunc");
    list::print(format, layers.into_iter().map(|item| Layer { item, trunc, human }))
}

struct Layer {
    item: Value,
    trunc: bool,
    human: bool,
}

/// Older dates are placeholders of builders that make images reproducible.
const FIRST_DATE: i64 = 946_684_800; // 2000-01-01

impl Row for Layer {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ];
    const TYPE_NAME: &'static str = "*image.historyContext";

    fn column(&self, name: &str) -> Option<Val> {
        let text = |key: &str| self.item[key].as_str().unwrap_or_default();
        let created = self.item["Created"].as_i64().unwrap_or_default();
        let size = self.item["Size"].as_i64().unwrap_or_default();
        Some(Val::text(match name {
            "ID" if self.trunc => short_id(text("Id")).to_owned(),
            "ID" => text("Id").to_owned(),
            "CreatedAt" => time::rfc3339(created),
            "CreatedSince" if !self.human => time::rfc3339(created),
            "CreatedSince" if created <= FIRST_DATE => "N/A".to_owned(),
            "CreatedSince" => time::ago(created),
            "CreatedBy" => {
                let command = text("CreatedBy").replace('\t', " ");
                if self.trunc { ellipsis(&command, 45) } else { command }
            }
            "Size" if self.human => units::human_size_short(size as f64),
            "Size" => size.to_string(),
            "Comment" => text("Comment").to_owned(),
            _ => return None,
        }))
    }
}
