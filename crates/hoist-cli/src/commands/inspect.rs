//! `inspect`: whatever has this name, as the engine tells it, whole or by a template.

use std::io::{self, Write};

use hoist_client::{Client, Error, Request, query::path_segment};
use serde_json::Value;

use super::{Command, MANY, container};
use crate::{
    app::{App, Failure, Outcome},
    flags::{Flag, Parsed, switch, text},
    format::json,
    template::{Template, Val},
};

pub(crate) const FORMAT: Flag = text(
    'f',
    "format",
    "Print with a custom template:
'json':             JSON on one line
'TEMPLATE':         The Go template, for each object",
);

const FLAGS: &[Flag] = &[
    FORMAT,
    switch('s', "size", "Show total file sizes if it is a container"),
    text('\0', "type", "Only inspect objects of this type"),
];

pub(crate) const COMMAND: Command = Command::action(
    "inspect",
    "Show everything about containers, images and other objects",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    (1, MANY),
    run,
)
.flags(&[FLAGS]);

/// An object as the engine wrote it, and the name of its Go type.
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) type_name: &'static str,
}

/// Kinds of objects in the order in which a bare name is looked up.
const KINDS: &[(&str, &str)] = &[
    ("container", "*container.InspectResponse"),
    ("image", "*image.InspectResponse"),
    ("network", "network.Inspect"),
    ("volume", "volume.Volume"),
];

fn run(app: &App, args: &Parsed) -> Outcome {
    let kind = args.text("type");
    if args.has("type") && !KINDS.iter().any(|(known, _)| *known == kind) {
        let later = ["config", "node", "plugin", "secret", "service", "task"];
        return match kind {
            "" => Err("type is empty: must be one of \"container\", \"image\", \"network\", \"volume\"".into()),
            kind if later.contains(&kind) => Err(format!("--type {kind}: the engine has no such objects").into()),
            kind => Err(format!(
                "unknown type: {}: must be one of \"container\", \"image\", \"network\", \"volume\"",
                crate::flags::check::quote(kind)
            )
            .into()),
        };
    }
    let size = args.is("size");
    if size && !matches!(kind, "" | "container") {
        eprintln!("WARNING: --size ignored for {kind}");
    }
    print(args, |name| any(app.client()?, name, kind, size))
}

/// The first object of this name.
fn any(client: &Client, name: &str, kind: &str, size: bool) -> Outcome<Found> {
    for (known, type_name) in KINDS {
        if !kind.is_empty() && kind != *known {
            continue;
        }
        let found = match *known {
            "container" => get(client, &container::path(name, "json"), size, type_name),
            "image" => get(client, &format!("/images/{}/json", path_segment(name)), false, type_name),
            "network" => {
                get(client, &format!("/networks/{}", path_segment(name).replace('/', "%2F")), false, type_name)
            }
            _ => get(client, &format!("/volumes/{}", path_segment(name).replace('/', "%2F")), false, type_name),
        };
        match found {
            // a name that cannot be of this kind, or a kind this engine does not have, is not found
            Err(Error::Api { status: 400 | 404 | 501, .. }) if kind.is_empty() => {}
            found => return Ok(found?),
        }
    }
    Err(format!("Error: No such object: {name}").into())
}

fn get(client: &Client, path: &str, size: bool, type_name: &'static str) -> Result<Found, Error> {
    let bytes = client.call(Request::get(path).switch("size", size))?.bytes()?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Protocol("the answer is not UTF-8".to_owned()))?;
    Ok(Found { text: text.trim().to_owned(), type_name })
}

pub(crate) fn container(client: &Client, name: &str, size: bool) -> Outcome<Found> {
    Ok(get(client, &container::path(name, "json"), size, KINDS[0].1)?)
}

pub(crate) fn image(client: &Client, name: &str, platform: Option<&str>) -> Outcome<Found> {
    let path = format!("/images/{}/json", path_segment(name));
    let Some(platform) = platform else { return Ok(get(client, &path, false, KINDS[1].1)?) };
    let request = Request::get(path).query("platform", crate::commands::image::platform_json(platform)?);
    let bytes = client.call(request)?.bytes()?;
    Ok(Found { text: String::from_utf8_lossy(&bytes).trim().to_owned(), type_name: KINDS[1].1 })
}

/// Prints every operand's object, whole or by the template; what is missing is told at the end.
pub(crate) fn print(args: &Parsed, mut find: impl FnMut(&str) -> Outcome<Found>) -> Outcome {
    let format = args.text("format");
    let template = match format {
        "" | "json" => None,
        source => {
            let broken = |why| Failure::new(64, format!("template parsing error: {why}"));
            Some(Template::parse(source).map_err(broken)?)
        }
    };
    let (mut raw, mut lines, mut errors) = (Vec::new(), String::new(), Vec::new());
    for name in &args.args {
        match find(name) {
            Err(failure) => errors.push(failure.text),
            Ok(found) => match &template {
                None => raw.push(found.text),
                Some(template) => match fill(template, &found) {
                    Ok(line) => lines.extend([line.as_str(), "\n"]),
                    Err(why) => errors.push(format!("template parsing error: {why}")),
                },
            },
        }
    }
    let out = match (&template, format) {
        (Some(_), _) if lines.is_empty() => "\n".to_owned(),
        (Some(_), _) => lines,
        (None, _) if raw.is_empty() => "[]\n".to_owned(),
        (None, "json") => format!("[{}]\n", raw.join(",")),
        (None, _) => format!("{}\n", json::indent(&format!("[{}]", raw.join(",")), "    ")),
    };
    io::stdout().lock().write_all(out.as_bytes())?;
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(1, errors.join("\n"))),
    }
}

/// By the types Docker's client knows, and where they have no such field by the JSON itself.
fn fill(template: &Template, found: &Found) -> Result<String, String> {
    let value: Value =
        serde_json::from_str(&found.text).map_err(|why| format!("unable to read inspect data: {why}"))?;
    match template.execute(&Val::typed(value.clone(), found.type_name)) {
        Ok(line) => Ok(line),
        Err(_) => template.execute(&Val::raw(value)),
    }
}
