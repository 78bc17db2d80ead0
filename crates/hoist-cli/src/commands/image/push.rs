//! `push`: uploads an image.

use hoist_client::Request;

use super::{super::Command, path, platform_json, pull::wants_trust, tag_or_repository};
use crate::{
    app::{App, Outcome},
    credentials,
    flags::{Flag, Parsed, switch, text},
    progress::{self, To},
};

const FLAGS: &[Flag] = &[
    switch('a', "all-tags", "Push every tag of the repository"),
    switch('\0', "disable-content-trust", "Skip image signing").or("true"),
    text('\0', "platform", "Push only this platform's image (\"os[/arch[/variant]]\")"),
    switch('q', "quiet", "Say less"),
];

pub(crate) const COMMAND: Command =
    Command::action("push", "Upload an image to a registry", "[OPTIONS] NAME[:TAG]", (1, 1), run)
        .flags(&[FLAGS])
        .aliases(&["image push", "push"]);

const PLATFORM_NOTE: &str = "
 Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.
         Other components, like attestations, will not be included.
         To push the complete multi-platform image, remove the --platform flag.
         ";

fn run(app: &App, args: &Parsed) -> Outcome {
    if wants_trust(args) {
        let text =
            "content trust: push does not sign: push with --disable-content-trust, then sign the digest with cosign";
        return Err(text.into());
    }
    let platform = args.filled("platform").map(platform_json).transpose()?;
    if platform.is_some() {
        println!("{PLATFORM_NOTE}");
    }
    let name = tag_or_repository(args)?;
    if name.digest.is_some() {
        return Err("cannot push a digest reference".into());
    }
    let quiet = args.is("quiet");
    let mut request = Request::post(path(&name.familiar_name(), "push"));
    if let Some(tag) = name.tag.as_deref() {
        request = request.query("tag", tag);
    }
    if let Some(platform) = platform {
        request = request.query("platform", platform);
    }
    if let Some(auth) = credentials::header_for(app, &name.domain) {
        request = request.header(credentials::HEADER, auth);
    }
    progress::show(app.client()?.call(request)?, if quiet { To::Nowhere } else { To::Stdout }, |_| {})?;
    if quiet {
        println!("{}", name.familiar());
    }
    Ok(())
}
