//! `manifest rm`: forgets lists that are pending here.

use super::{
    super::{Command, MANY, for_each_operand},
    normalized,
    pending::Pending,
};
use crate::{
    app::{App, Outcome},
    flags::Parsed,
};

pub(super) const COMMAND: Command =
    Command::action("rm", "Remove lists that were not pushed", "MANIFEST_LIST [MANIFEST_LIST...]", (1, MANY), run);

fn run(app: &App, args: &Parsed) -> Outcome {
    let pending = Pending::of(app)?;
    for_each_operand(&args.args, |name| {
        let list = normalized(name)?;
        pending.required(&list)?;
        pending.remove(&list)
    })
}
