//! `manifest annotate`: says what an image of a list is made for.

use super::{super::Command, normalized, pending::Pending};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, check, text, value},
    opts::csv,
};

const FLAGS: &[Flag] = &[
    text('\0', "arch", "Set the architecture"),
    text('\0', "os", "Set the operating system"),
    value('\0', "os-features", "strings", check::any, "Add features of the operating system"),
    text('\0', "os-version", "Set the version of the operating system"),
    text('\0', "variant", "Set the variant of the architecture"),
];

pub(super) const COMMAND: Command = Command::action(
    "annotate",
    "Say what an image of a list is made for",
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    (2, 2),
    run,
)
.flags(&[FLAGS]);

/// What Go builds for, as far as lists may name it.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

fn run(app: &App, args: &Parsed) -> Outcome {
    let (name, image_name) = (&args.args[0], &args.args[1]);
    let parsed = |text: &str, what: &str| {
        normalized(text).map_err(|failure| format!("annotate: error parsing name for {what} {text}: {}", failure.text))
    };
    let (list, image) = (parsed(name, "manifest list")?, parsed(image_name, "manifest")?);
    let pending = Pending::of(app)?;
    let Some(mut manifest) = pending.get(&list, &image)? else {
        return Err(format!("manifest for image {image_name} does not exist in {name}").into());
    };
    let platform = manifest.descriptor.platform.get_or_insert_default();
    let (os, arch) = (args.text("os"), args.text("arch"));
    for (field, given) in [
        (&mut platform.os, os),
        (&mut platform.architecture, arch),
        (&mut platform.variant, args.text("variant")),
        (&mut platform.os_version, args.text("os-version")),
    ] {
        if !given.is_empty() {
            given.clone_into(field);
        }
    }
    for given in args.all("os-features").into_iter().filter(|given| !given.is_empty()) {
        for feature in csv::fields(given)? {
            if !platform.os_features.contains(&feature) {
                platform.os_features.push(feature);
            }
        }
    }
    let known = |(os, architectures): &(&str, &[&str])| {
        *os == platform.os && architectures.contains(&platform.architecture.as_str())
    };
    if !PLATFORMS.iter().any(known) {
        return Err(format!("manifest entry for image has unsupported os/arch combination: {os}/{arch}").into());
    }
    pending.save(&list, &image, &manifest)
}
