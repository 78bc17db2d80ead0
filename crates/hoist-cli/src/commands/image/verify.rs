//! `image verify`: Hoist's own.

use hoist_client::Request;

use super::super::{Command, MANY};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch},
    progress::{self, To},
};

const FLAGS: &[Flag] = &[switch('\0', "repair", "Fetch what is damaged again from where it came")];

pub(crate) const COMMAND: Command = Command::action(
    "verify",
    "Check every file of images against what was unpacked (all images, if none is named)",
    "[OPTIONS] [IMAGE...]",
    (0, MANY),
    run,
)
.flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let repair = if args.is("repair") { "1" } else { "0" };
    let mut request = Request::post("/hoist/images/verify").query("repair", repair);
    for name in &args.args {
        request = request.query("names", name.as_str());
    }
    progress::show(app.client()?.call(request)?, To::Stdout, |_| {})
}
