//! `rmi`: removes names of images, and images without one.

use hoist_api::platform::Platform;
use hoist_client::Request;
use serde_json::Value;

use super::{
    super::{Command, MANY, for_each_operand},
    path, platform_json,
};
use crate::{
    app::{App, Outcome, client_text},
    flags::{Flag, Parsed, switch, value},
};

const FLAGS: &[Flag] = &[
    switch('f', "force", "Remove the image even if several names or stopped containers use it"),
    switch('\0', "no-prune", "Keep parents without a name"),
    value(
        '\0',
        "platform",
        "strings",
        crate::flags::check::any,
        "Remove only this platform's image (\"os[/arch[/variant]]\")",
    ),
];

pub(crate) const COMMAND: Command =
    Command::action("rm", "Remove images and their names", "[OPTIONS] IMAGE [IMAGE...]", (1, MANY), run)
        .flags(&[FLAGS])
        .also(&["remove"])
        .aliases(&["image rm", "image remove", "rmi"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let force = args.is("force");
    let lists = args.all("platform").into_iter().filter(|list| !list.is_empty());
    let platforms = lists.flat_map(|list| list.split(',')).map(|platform| {
        Platform::parse(platform)?;
        platform_json(platform)
    });
    let platforms = platforms.collect::<Outcome<Vec<String>>>()?;
    let client = app.client()?;
    for_each_operand(&args.args, |name| {
        let mut request = Request::delete(path(name, "")).switch("force", force).switch("noprune", args.is("no-prune"));
        for platform in &platforms {
            request = request.query("platforms", platform.as_str());
        }
        let items: Vec<Value> = match client.call(request) {
            // with --force, what is not there is as it should be
            Err(error) if force && error.status() == Some(404) => {
                eprintln!("{}", client_text(&error));
                return Ok(());
            }
            other => other?.json()?,
        };
        items.iter().for_each(|item| print_item(item, false));
        Ok(())
    })
}

/// `Untagged: x`, `Deleted: sha256:…`; prune writes them in lower case.
pub(super) fn print_item(item: &Value, lower: bool) {
    for (key, title, small) in [("Deleted", "Deleted", "deleted"), ("Untagged", "Untagged", "untagged")] {
        if let Some(text) = item[key].as_str().filter(|text| !text.is_empty()) {
            println!("{}: {text}", if lower { small } else { title });
            return;
        }
    }
}
