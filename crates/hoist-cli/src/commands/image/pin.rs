//! `image pin` and `image unpin`: Hoist's own.

use hoist_api::image::Unpinned;
use hoist_client::Request;
use hoist_client::query::path_segment;

use super::super::{Command, MANY};
use crate::{
    app::{App, Outcome},
    flags::Parsed,
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
    for name in &args.args {
        app.client()?.call(Request::post(path(name)))?.bytes()?;
        println!("Pinned: {name}");
    }
    Ok(())
}

fn unpin(app: &App, args: &Parsed) -> Outcome {
    for name in &args.args {
        let unpinned: Unpinned = app.client()?.call(Request::delete(path(name)))?.json()?;
        println!("Unpinned: {name}");
        if !unpinned.still_pinned_by.is_empty() {
            println!("The image is still pinned by {}", unpinned.still_pinned_by.join(", "));
        }
    }
    Ok(())
}
