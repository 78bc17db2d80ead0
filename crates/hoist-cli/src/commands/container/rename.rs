//! `rename`.

use hoist_client::Request;

use super::{super::Command, path};
use crate::{
    app::{App, Failure, Outcome, client_text},
    flags::Parsed,
};

pub(crate) const COMMAND: Command =
    Command::action("rename", "Give a container another name", "CONTAINER NEW_NAME", (2, 2), run)
        .aliases(&["container rename", "rename"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let (old, new) = (args.args[0].trim(), args.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err("Error: Neither old nor new names may be empty".into());
    }
    let client = app.client()?;
    client.call(Request::post(path(old, "rename")).query("name", new)).map_err(|error| {
        let text = client_text(&error);
        Failure::new(1, format!("{text}\nError: failed to rename container named {old}"))
    })?;
    Ok(())
}
