//! `commit`: makes an image of what a container changed.

use hoist_api::reference::Reference;
use hoist_client::Request;
use serde_json::Value;

use super::super::Command;
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, list, switch, text},
};

const FLAGS: &[Flag] = &[
    text('a', "author", "Who made the image"),
    list('c', "change", "Apply a Dockerfile instruction to the image"),
    text('m', "message", "Message to keep with the image"),
    switch('p', "pause", "Pause the container meanwhile").or("true"),
];

pub(crate) const COMMAND: Command = Command::action(
    "commit",
    "Make an image of a container's changes",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    (1, 2),
    run,
)
.flags(&[FLAGS])
.aliases(&["container commit", "commit"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let mut request = Request::post("/commit").query("container", args.args[0].as_str());
    if let Some(name) = args.args.get(1).filter(|name| !name.is_empty()) {
        let name = Reference::parse(name).map_err(|why| why.to_string())?;
        if name.digest.is_some() {
            return Err("refusing to create a tag with a digest reference".into());
        }
        let name = name.with_default_tag();
        request = request.query("repo", name.name()).query("tag", name.tag.as_deref().unwrap_or_default());
    }
    for (key, flag) in [("comment", "message"), ("author", "author")] {
        if !args.text(flag).is_empty() {
            request = request.query(key, args.text(flag));
        }
    }
    for change in args.all("change") {
        request = request.query("changes", change);
    }
    if !args.is_or("pause", true) {
        request = request.query("pause", "0");
    }
    let answer: Value = app.client()?.call(request)?.json()?;
    println!("{}", answer["Id"].as_str().unwrap_or_default());
    Ok(())
}
