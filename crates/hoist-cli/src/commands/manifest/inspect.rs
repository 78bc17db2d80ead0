//! `manifest inspect`: an image's manifest or a list, pending here or at its registry.

use std::io::{self, Write};

use hoist_api::reference::Reference;

use super::{
    super::Command,
    INSECURE,
    document::ImageManifest,
    list, normalized,
    pending::{self, Pending},
    remote,
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch},
    format::json,
};

const FLAGS: &[Flag] = &[INSECURE, switch('v', "verbose", "Show platforms and layers too")];

pub(super) const COMMAND: Command = Command::action(
    "inspect",
    "Show an image's manifest, or a list of them",
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    (1, 2),
    run,
)
.flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let verbose = args.is("verbose");
    if let [list, image] = args.args.as_slice() {
        let (image, list) = (normalized(image)?, normalized(list)?);
        let manifest = Pending::of(app)?.get(&list, &image)?.ok_or_else(|| pending::missing(&image))?;
        return print_one(&manifest, verbose);
    }
    let name = normalized(&args.args[0])?;
    // a list that cannot be read is not the one that is asked for
    if let Ok(Some(images)) = Pending::of(app).and_then(|pending| pending.list(&name)) {
        return print_list(&name, &images, verbose);
    }
    let fetched = remote::fetch(app, &name, args.is("insecure"))?;
    let images = fetched.manifests.into_iter().map(ImageManifest::of).collect::<Result<Vec<_>, String>>()?;
    match images.as_slice() {
        [one] if !fetched.is_list => print_one(one, verbose),
        images => print_list(&name, images, verbose),
    }
}

fn print_one(manifest: &ImageManifest, verbose: bool) -> Outcome {
    if verbose {
        return print(&json::indent(&manifest.compact()?, "\t"));
    }
    let payload = manifest.payload()?;
    let behind = &payload[payload.trim_end().len()..];
    print(&format!("{}{behind}", json::indent(payload, "\t")))
}

fn print_list(name: &Reference, images: &[ImageManifest], verbose: bool) -> Outcome {
    if verbose {
        let lines = images.iter().map(ImageManifest::compact).collect::<Result<Vec<_>, String>>()?;
        return print(&json::indent(&format!("[{}]", lines.join(",")), "\t"));
    }
    let document =
        list::document(name, images).map_err(|why| format!("failed to assemble ManifestDescriptor: {why}"))?;
    print(&document.text)
}

fn print(text: &str) -> Outcome {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}
