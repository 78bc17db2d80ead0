//! `image verify`: Hoist's own.

use std::collections::BTreeSet;

use hoist_api::reference::Reference;
use hoist_client::Request;
use serde_json::Value;

use super::super::{Command, MANY};
use crate::{
    app::{App, Outcome},
    credentials,
    flags::{Flag, Parsed, switch},
    ours::only_ours,
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
    let repairs = args.is("repair");
    let mut request = Request::post("/hoist/images/verify").query("repair", if repairs { "1" } else { "0" });
    for name in &args.args {
        request = request.query("names", name.as_str());
    }
    if repairs && let Some(keyring) = credentials::keyring_for(app, &registries(app)?) {
        request = request.header(credentials::KEYRING_HEADER, keyring);
    }
    let answer = app.client()?.call(request).map_err(only_ours("image verify"))?;
    progress::show(answer, To::Stdout, |_| {})
}

/// Where images came from. A layer may be fetched from another place than its image's name says, so all are asked for.
fn registries(app: &App) -> Outcome<BTreeSet<String>> {
    let images: Vec<Value> = app.client()?.call(Request::get("/images/json"))?.json()?;
    let names = images.iter().flat_map(|image| [&image["RepoTags"], &image["RepoDigests"]]);
    let names = names.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    Ok(names.filter_map(|name| Reference::parse(name).ok()).map(|name| name.domain).collect())
}
