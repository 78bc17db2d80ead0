//! `import`: an image of one layer from a tar archive.

use hoist_api::reference::Reference;
use hoist_client::Request;

use super::{
    super::{Command, MANY},
    wanted_platform,
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, list, text},
    progress::{self, To},
    upload::Source,
};

const FLAGS: &[Flag] = &[
    list('c', "change", "Apply a Dockerfile instruction to the image"),
    text('m', "message", "Message to keep with the image"),
    text('\0', "platform", "Platform of the image"),
];

pub(crate) const COMMAND: Command = Command::action(
    "import",
    "Make an image of the files in a tar archive",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    (1, MANY),
    run,
)
.flags(&[FLAGS])
.aliases(&["image import", "import"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    if let Some(extra) = args.args.get(2) {
        return Err(format!("unexpected argument {extra:?}: one archive makes one image").into());
    }
    let source = args.args[0].as_str();
    let name = args.args.get(1).filter(|name| !name.is_empty());
    if let Some(name) = name {
        Reference::parse(name).map_err(|why| why.to_string())?;
    }
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let mut request = Request::post("/images/create").query("fromSrc", if is_url { source } else { "-" });
    if let Some(name) = name {
        request = request.query("repo", name.as_str());
    }
    if let Some(message) = args.get("message").filter(|message| !message.is_empty()) {
        request = request.query("message", message);
    }
    for change in args.all("change") {
        request = request.query("changes", change);
    }
    if let Some(platform) = wanted_platform(args) {
        request = request.query("platform", platform.to_lowercase());
    }
    let client = app.client()?;
    let mut archive;
    let request = if is_url {
        request
    } else {
        archive = if source == "-" { Source::stdin()? } else { Source::open(source)? };
        request.stream("text/plain", &mut archive)
    };
    progress::show(client.call(request)?, To::Stdout, |_| {})
}
