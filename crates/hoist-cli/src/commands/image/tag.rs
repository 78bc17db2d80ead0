//! `tag`: another name for an image.

use hoist_api::reference::Reference;
use hoist_client::Request;

use super::{super::Command, path};
use crate::{
    app::{App, Outcome},
    flags::Parsed,
};

pub(crate) const COMMAND: Command =
    Command::action("tag", "Give an image another name", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", (2, 2), run)
        .aliases(&["image tag", "tag"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let (source, target) = (&args.args[0], &args.args[1]);
    let bad = |name: &str, why: String| {
        format!("Error parsing reference: {} is not a valid repository/tag: {why}", crate::flags::check::quote(name))
    };
    let name = Reference::parse(target).map_err(|why| bad(target, why.to_string()))?;
    if name.digest.is_some() {
        return Err("refusing to create a tag with a digest reference".into());
    }
    let name = name.with_default_tag();
    let request = Request::post(path(source, "tag"))
        .query("repo", name.name())
        .query("tag", name.tag.as_deref().unwrap_or_default());
    app.client()?.call(request)?.bytes()?;
    Ok(())
}
