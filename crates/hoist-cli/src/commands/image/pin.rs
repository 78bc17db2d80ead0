//! `image pin` and `image unpin`: Hoist's own.

use hoist_api::image::Unpinned;
use hoist_client::Request;
use hoist_client::query::path_segment;

use super::super::{Command, MANY, for_each_operand};
use crate::{
    app::{App, Outcome},
    flags::Parsed,
    ours::only_ours,
};

pub(crate) const COMMAND: Command = Command::action(
    "pin",
    "Keep images from being pruned: by a name, whatever image it comes to stand for, or by ID",
    "IMAGE [IMAGE...]",
    (1, MANY),
    pin,
);

pub(crate) const UNPIN: Command =
    Command::action("unpin", "Let images be pruned again", "IMAGE [IMAGE...]", (1, MANY), unpin);

fn path(name: &str) -> String {
    format!("/hoist/images/{}/pin", path_segment(name))
}

fn pin(app: &App, args: &Parsed) -> Outcome {
    let client = app.client()?;
    for_each_operand(&args.args, |name| {
        client.call(Request::post(path(name))).map_err(only_ours("image pin"))?.bytes()?;
        println!("Pinned: {name}");
        Ok(())
    })
}

fn unpin(app: &App, args: &Parsed) -> Outcome {
    let client = app.client()?;
    for_each_operand(&args.args, |name| {
        let unpinned = client.call(Request::delete(path(name))).map_err(only_ours("image unpin"))?;
        let unpinned: Unpinned = unpinned.json()?;
        println!("Unpinned: {name}");
        if !unpinned.still_pinned_by.is_empty() {
            println!("The image is still pinned by {}", unpinned.still_pinned_by.join(", "));
        }
        Ok(())
    })
}
