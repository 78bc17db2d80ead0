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
    if args.has("type") {
        check_type(kind)?;
    }
    let size = args.is("size");
    print(args, |name| {
        let found = any(app.client()?, name, kind, size)?;
        if let Some((kind, _)) = KINDS.iter().find(|(_, type_name)| *type_name == found.type_name)
            && size
            && *kind != KINDS[0].0
        {
            eprintln!("WARNING: --size ignored for {kind}");
        }
        Ok(found)
    })
}

/// Types of Docker's objects that an engine of one machine does not have.
const ELSEWHERE: [&str; 6] = ["config", "node", "plugin", "secret", "service", "task"];

fn check_type(kind: &str) -> Result<(), String> {
    let mut known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
    if known.contains(&kind) {
        return Ok(());
    }
    if ELSEWHERE.contains(&kind) {
        return Err(format!("--type {kind}: the engine has no such objects"));
    }
    known.extend(ELSEWHERE);
    known.sort_unstable();
    let known = known.join("\", \"");
    match kind {
        "" => Err(format!("type is empty: must be one of \"{known}\"")),
        kind => Err(format!("unknown type: {}: must be one of \"{known}\"", crate::flags::check::quote(kind))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_type_is_told_all_there_are() {
        let all =
            r#""config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume""#;
        assert_eq!(check_type("foo").unwrap_err(), format!("unknown type: \"foo\": must be one of {all}"));
        assert_eq!(check_type("").unwrap_err(), format!("type is empty: must be one of {all}"));
        assert_eq!(check_type("task").unwrap_err(), "--type task: the engine has no such objects");
        assert!(check_type("volume").is_ok());
    }
}
