//! `manifest push`: puts a pending list to its registry, with the images of it that another repository has.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hoist_api::{
    manifest::{Mount, Put},
    reference::Reference,
};

use super::{super::Command, document::ImageManifest, list, normalized, pending::Pending, remote};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch},
};

const FLAGS: &[Flag] = &[super::INSECURE, switch('p', "purge", "Forget the list here when it is there")];

pub(super) const COMMAND: Command =
    Command::action("push", "Push a list to its registry", "[OPTIONS] MANIFEST_LIST", (1, 1), run).flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let list = normalized(&args.args[0])?;
    let (pending, insecure) = (Pending::of(app)?, args.is("insecure"));
    let images = pending.required(&list)?;
    if images.is_empty() {
        return Err(format!("{list} not found").into());
    }
    for image in &images {
        let platform = image.descriptor.platform.as_ref();
        if platform.is_none_or(|platform| platform.architecture.is_empty() || platform.os.is_empty()) {
            let text = "must have an OS and Architecture to be pushed to a registry";
            return Err(format!("manifest {} {text}", image.reference).into());
        }
    }
    let document = list::document(&list, &images)?;
    for image in &images {
        push_image(app, &list, image, insecure)?;
    }
    let raw = BASE64_STANDARD.encode(&document.text);
    let put = Put { mounts: Vec::new(), media_type: document.media_type.to_owned(), raw };
    println!("{}", remote::put(app, &list, &put, insecure)?);
    if args.is("purge") {
        pending.remove(&list)?;
    }
    Ok(())
}

/// Has an image in the list's repository, if it is from another one.
fn push_image(app: &App, list: &Reference, image: &ImageManifest, insecure: bool) -> Outcome {
    let source = Reference::parse(&image.reference).map_err(|why| why.to_string())?;
    if source.path == list.path {
        return Ok(());
    }
    // registries do not distribute what Windows images begin with
    let optional = image.descriptor.platform.as_ref().is_some_and(|platform| platform.os == "windows");
    let mount = |digest: String| Mount { digest, from: source.path.clone(), optional };
    let mounts = image.blobs()?.into_iter().map(mount).collect();
    let put = Put { mounts, media_type: image.descriptor.media_type.clone(), raw: image.raw()? };
    let target = list.with_digest(&image.descriptor.digest);
    let digest = remote::put(app, &target, &put, insecure)?;
    println!("Pushed ref {target} with digest: {digest}");
    Ok(())
}
