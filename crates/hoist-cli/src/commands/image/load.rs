//! `load`: images from an archive that `save` wrote.

use std::io::{self, IsTerminal};

use hoist_client::Request;

use super::{super::Command, platform_json};
use crate::{
    app::{App, Outcome},
    env,
    flags::{Flag, Parsed, switch, text},
    progress::{self, To},
    upload::Source,
};

const FLAGS: &[Flag] = &[
    text('i', "input", "Read from an archive file in place of STDIN"),
    text('\0', "platform", "Load only this platform's image (\"os[/arch[/variant]]\")"),
    switch('q', "quiet", "Do not show progress"),
];

pub(crate) const COMMAND: Command =
    Command::action("load", "Load images that were saved to a tar archive", "[OPTIONS]", (0, 0), run)
        .flags(&[FLAGS])
        .aliases(&["image load", "load"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let quiet = args.is("quiet") || !io::stdout().is_terminal() || env::wants_plain();
    let mut request = Request::post("/images/load").query("quiet", if quiet { "1" } else { "0" });
    if let Some(platform) = args.filled("platform") {
        request = request.query("platform", platform_json(platform)?);
    }
    let client = app.client()?;
    let mut archive = match args.text("input") {
        "" if io::stdin().is_terminal() => return Err("requested load from stdin, but stdin is empty".into()),
        "" => Source::stdin()?,
        path => Source::open(path)?,
    };
    progress::show(client.call(request.stream("application/x-tar", &mut archive))?, To::Stdout, |_| {})
}
