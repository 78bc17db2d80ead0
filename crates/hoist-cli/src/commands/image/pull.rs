//! `pull`: downloads an image, for itself or because `run` lacks it.

use hoist_api::reference::Reference;
use hoist_client::Request;

use super::{super::Command, tag_or_repository, wanted_platform};
use crate::{
    app::{App, Outcome},
    credentials, env,
    flags::{Flag, Parsed, switch, text},
    ours::only_ours,
    progress::{self, To},
};

const FLAGS: &[Flag] = &[
    switch('a', "all-tags", "Download all tags of the repository"),
    switch('\0', "disable-content-trust", "Skip image verification").or("true"),
    text('\0', "platform", "Platform of the image, if it has several"),
    switch('q', "quiet", "Say less"),
];

pub(crate) const COMMAND: Command =
    Command::action("pull", "Fetch an image from a registry", "[OPTIONS] NAME[:TAG|@DIGEST]", (1, 1), run)
        .flags(&[FLAGS])
        .aliases(&["image pull", "pull"]);

/// Where a pull on behalf of another command is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Stderr,
    Nothing,
}

fn run(app: &App, args: &Parsed) -> Outcome {
    let name = tag_or_repository(args)?;
    let to = if args.is("quiet") { To::Nowhere } else { To::Stdout };
    request(app, &name, wanted_platform(args).as_deref(), wants_trust(args), to)?;
    println!("{name}");
    Ok(())
}

/// Pulls what another command found missing.
pub(crate) fn pull(app: &App, image: &str, platform: Option<&str>, trusted: bool, show: Show) -> Outcome {
    let name = Reference::parse(image).map_err(|why| why.to_string())?.with_default_tag();
    request(app, &name, platform, trusted, if show == Show::Stderr { To::Stderr } else { To::Nowhere })
}

/// Whether what is pulled must be signed: the flag's value, else the environment's.
pub(crate) fn wants_trust(args: &Parsed) -> bool {
    !args.is_or("disable-content-trust", !env::content_trust())
}

fn request(app: &App, name: &Reference, platform: Option<&str>, trusted: bool, to: To) -> Outcome {
    // a route of Hoist's own: an engine that checks no signatures does not know it
    let route = if trusted { "/hoist/images/create" } else { "/images/create" };
    let mut request = Request::post(route).query("fromImage", name.name());
    if let Some(tag) = name.digest.as_deref().or(name.tag.as_deref()) {
        request = request.query("tag", tag);
    }
    if let Some(platform) = platform {
        request = request.query("platform", platform);
    }
    if let Some(auth) = credentials::header_for(app, &name.domain) {
        request = request.header(credentials::HEADER, auth);
    }
    let answer = app.client()?.call(request);
    let answer = if trusted {
        answer.map_err(only_ours("content trust (--disable-content-trust pulls without)"))?
    } else {
        answer?
    };
    progress::show(answer, to, |_| {})
}
