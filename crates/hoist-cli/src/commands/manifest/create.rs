//! `manifest create`: begins a list, or adds to one.

use hoist_api::reference::Reference;

use super::{
    super::{Command, MANY},
    INSECURE,
    document::ImageManifest,
    normalized,
    pending::Pending,
    remote,
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch},
};

const FLAGS: &[Flag] = &[switch('a', "amend", "Add to a list that is there"), INSECURE];

pub(super) const COMMAND: Command = Command::action(
    "create",
    "Create a list of images for several platforms, to annotate and push it",
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    (2, MANY),
    run,
)
.flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let (name, images) = (&args.args[0], &args.args[1..]);
    let list =
        normalized(name).map_err(|failure| format!("error parsing name for manifest list {name}: {}", failure.text))?;
    let pending = Pending::of(app)?;
    if pending.list(&list)?.is_some() && !args.is("amend") {
        return Err("refusing to amend an existing manifest list with no --amend flag".into());
    }
    for image in images {
        let image = normalized(image)?;
        let manifest = match pending.get(&list, &image)? {
            Some(known) if !known.raw.is_empty() => known,
            _ => one(app, &image, args.is("insecure"))?,
        };
        pending.save(&list, &image, &manifest)?;
    }
    println!("Created manifest list {list}");
    Ok(())
}

fn one(app: &App, image: &Reference, insecure: bool) -> Outcome<ImageManifest> {
    let fetched = remote::fetch(app, image, insecure)?;
    if fetched.is_list {
        return Err(format!("{image} is a manifest list").into());
    }
    let manifest = fetched.manifests.into_iter().next().ok_or_else(|| format!("{image} is not a manifest"))?;
    Ok(ImageManifest::of(manifest)?)
}
