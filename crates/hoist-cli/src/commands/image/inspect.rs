//! `image inspect`.

use hoist_api::platform::Platform;

use super::super::{Command, MANY, inspect};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, text},
};

const FLAGS: &[Flag] =
    &[inspect::FORMAT, text('\0', "platform", "Inspect this platform's image (\"os[/arch[/variant]]\")")];

pub(crate) const COMMAND: Command =
    Command::action("inspect", "Show everything about images", "[OPTIONS] IMAGE [IMAGE...]", (1, MANY), run)
        .flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    if let Some(platform) = args.filled("platform") {
        Platform::parse(platform)?;
    }
    inspect::print(args, |name| inspect::image(app.client()?, name, args.filled("platform")))
}
