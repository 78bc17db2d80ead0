//! `image diff`: what an image changed in the one below it, or has otherwise than another. Hoist's own.

use hoist_client::{Client, Error, Request, query::path_segment};
use serde_json::Value;

use super::super::{
    Command, FORMAT_HELP,
    container::diff::{CHANGES, Change},
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, text},
    format::list,
    ours::only_ours,
};

const FLAGS: &[Flag] = &[text('\0', "format", FORMAT_HELP)];

pub(crate) const COMMAND: Command = Command::action(
    "diff",
    "Show what an image's uppermost layer changed, or what it has otherwise than another image",
    "[OPTIONS] IMAGE [IMAGE]",
    (1, 2),
    run,
)
.flags(&[FLAGS]);

const TABLE: &str = "table {{.Type}}\t{{.Path}}";

fn run(app: &App, args: &Parsed) -> Outcome {
    let client = app.client()?;
    let against = args.args.get(1).map(String::as_str);
    let changes = changes(client, &args.args[0], against).map_err(only_ours("image diff"))?;
    let format = match args.text("format") {
        "" => CHANGES,
        "table" => TABLE,
        custom => custom,
    };
    list::print(format, changes.into_iter().map(Change))
}

/// What the engine finds; another engine does not know the route.
pub(crate) fn changes(client: &Client, image: &str, against: Option<&str>) -> Result<Vec<Value>, Error> {
    let mut request = Request::get(format!("/hoist/images/{}/changes", path_segment(image)));
    if let Some(other) = against {
        request = request.query("against", other);
    }
    client.call(request)?.json()
}
