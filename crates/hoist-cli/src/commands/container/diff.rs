//! `diff`: what a container has changed in its file system; where no container has the name, an image.

use hoist_client::Request;
use serde_json::Value;

use super::{
    super::{Command, image},
    path,
};
use crate::{
    app::{App, Outcome},
    flags::Parsed,
    format::list::{self, Row},
    ours::is_unknown_route,
    template::Val,
};

pub(crate) const COMMAND: Command =
    Command::action("diff", "Show what a container (or an image) changed in its file system", "CONTAINER", (1, 1), run)
        .aliases(&["container diff", "diff"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let (client, name) = (app.client()?, &args.args[0]);
    let answer: Value = match client.call(Request::get(path(name, "changes"))) {
        // an image of this name, where the engine compares images; what Docker says otherwise
        Err(error) if error.status() == Some(404) => match image::diff::changes(client, name, None) {
            Ok(changes) => Value::Array(changes),
            // nor is there an image, or the name can be no image's, or another engine compares none
            Err(other) if matches!(other.status(), Some(400 | 404)) || is_unknown_route(&other) => {
                return Err(error.into());
            }
            Err(other) => return Err(other.into()),
        },
        other => other?.json()?,
    };
    let Value::Array(changes) = answer else { return Ok(()) };
    list::print(CHANGES, changes.into_iter().map(Change))
}

/// How changes are listed unless another format is asked for.
pub(crate) const CHANGES: &str = "{{.Type}} {{.Path}}";

/// A row of the changes in a file system.
pub(crate) struct Change(pub(crate) Value);

impl Row for Change {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[("Type", "CHANGE TYPE"), ("Path", "PATH")];
    const TYPE_NAME: &'static str = "*container.diffContext";

    fn column(&self, name: &str) -> Option<Val> {
        Some(Val::text(match name {
            "Type" => match self.0["Kind"].as_i64() {
                Some(0) => "C",
                Some(1) => "A",
                Some(2) => "D",
                _ => "",
            },
            "Path" => self.0["Path"].as_str().unwrap_or_default(),
            _ => return None,
        }))
    }
}
