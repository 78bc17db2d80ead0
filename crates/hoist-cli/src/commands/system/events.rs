//! `events`: what happens in the engine, as it happens.

use std::io::{self, Write};

use hoist_client::Request;
use serde_json::Value;

use super::super::Command;
use crate::{
    app::{App, Failure, Outcome},
    flags::{Flag, Parsed, text, value},
    format::{json, time},
    opts::filter,
    template::{Template, Val},
};

const FLAGS: &[Flag] = &[
    value('f', "filter", "filter", filter::check, "Show only what fulfils the conditions"),
    text(
        '\0',
        "format",
        "Print with a custom template:
'json':             JSON, one object a line
'TEMPLATE':         The Go template, for each event",
    ),
    text('\0', "since", "Show events since this time"),
    text('\0', "until", "End at this time"),
];

pub(crate) const COMMAND: Command =
    Command::action("events", "Follow what happens in the engine", "[OPTIONS]", (0, 0), run)
        .flags(&[FLAGS])
        .aliases(&["system events", "events"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let template = match args.text("format") {
        "" => None,
        "json" => Some(Template::parse("{{json .}}")),
        source => Some(Template::parse(source)),
    };
    let broken = |why: String| Failure::new(64, format!("Error parsing format: {why}"));
    let template = template.transpose().map_err(broken)?;
    let mut request = Request::get("/events");
    for what in ["since", "until"] {
        if let Some(text) = args.get(what) {
            let point = time::point_in_time(text)?;
            request = request.query(what, point);
        }
    }
    request = filter::add(request, &args.all("filter"));
    for event in app.client()?.call(request)?.json_stream() {
        let event = event?;
        let line = match &template {
            None => line(&event),
            Some(_) if args.text("format") == "json" => json::encode(&event),
            Some(template) => {
                let broken = |why| Failure::new(64, format!("Error parsing format: {why}"));
                template.execute(&Val::typed(named(&event), "*events.Message")).map_err(broken)?
            }
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()?;
    }
    Ok(())
}

/// The event under the names its Go type gives it, beside those of the JSON.
fn named(event: &Value) -> Value {
    let mut event = event.clone();
    for (json, name) in [
        ("status", "Status"),
        ("id", "ID"),
        ("from", "From"),
        ("scope", "Scope"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
    ] {
        let value = event.get(json).cloned().unwrap_or_else(|| "".into());
        if let Some(object) = event.as_object_mut() {
            object.remove(json);
            object.insert(name.to_owned(), value);
        }
    }
    event
}

/// `time type action id (key=value, …)`
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nanoseconds = match event["timeNano"].as_i64() {
        Some(nanoseconds) if nanoseconds != 0 => i128::from(nanoseconds),
        _ => i128::from(event["time"].as_i64().unwrap_or_default()) * 1_000_000_000,
    };
    let mut words = Vec::new();
    if nanoseconds != 0 {
        words.push(time::rfc3339_nano(nanoseconds));
    }
    let actor = &event["Actor"];
    words.extend([text(&event["Type"]), text(&event["Action"]), text(&actor["ID"])]);
    let mut line = words.join(" ");
    let attributes = actor["Attributes"].as_object();
    let mut pairs: Vec<String> =
        attributes.into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    if !pairs.is_empty() {
        pairs.sort();
        line.push_str(&format!(" ({})", pairs.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line_with_sorted_attributes() {
        let event = json!({"Type": "container", "Action": "start", "timeNano": 1_795_309_915_044_218_839_i64, "time": 1,
            "Actor": {"ID": "abc", "Attributes": {"name": "x", "image": "b"}}});
        let line = line(&event);
        assert!(line.ends_with(" container start abc (image=b, name=x)"), "{line}");
        assert!(line.contains(".044218839"), "{line}");
    }
}
