//! `container inspect`.

use super::super::{Command, MANY, inspect};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch},
};

const FLAGS: &[Flag] = &[inspect::FORMAT, switch('s', "size", "Show total file sizes")];

pub(crate) const COMMAND: Command = Command::action(
    "inspect",
    "Show everything about containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (1, MANY),
    run,
)
.flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    inspect::print(args, |name| inspect::container(app.client()?, name, args.is("size")))
}
