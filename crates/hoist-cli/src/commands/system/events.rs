//! `events`: what happens in the engine, as it happens.

use std::io::{self, Write};

use hoist_client::Request;
use serde_json::{Map, Value};

use super::super::Command;
use crate::{
    app::{App, Failure, Outcome},
    flags::{Flag, Parsed, text, value},
    format::time,
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
        if let Some(text) = args.filled(what) {
            let point = time::point_in_time(text)?;
            request = request.query(what, point);
        }
    }
    request = filter::add(request, &args.all("filter"));
    for event in app.client()?.call(request)?.json_stream() {
        let event = completed(event?);
        let line = match &template {
            None => line(&event),
            Some(template) => template.execute(&Val::typed(event, "*events.Message")).map_err(broken)?,
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()?;
    }
    Ok(())
}

/// The event with the copies of fields that engines before API 1.52 send of containers and images.
fn completed(event: Value) -> Value {
    let Value::Object(event) = event else { return event };
    let has_copies = matches!(event.get("Type").and_then(Value::as_str), Some("container" | "image"));
    let actor = event.get("Actor").unwrap_or(&Value::Null);
    let mut whole = Map::new();
    if has_copies {
        let action = event.get("Action").unwrap_or(&Value::Null);
        let copies = [("status", action), ("id", &actor["ID"]), ("from", &actor["Attributes"]["image"])];
        let copies = copies.into_iter().filter(|(_, value)| value.as_str().is_some_and(|text| !text.is_empty()));
        whole.extend(copies.map(|(key, value)| (key.to_owned(), value.clone())));
    }
    whole.extend(event);
    Value::Object(whole)
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
    fn events_of_containers_and_images_have_their_copies() {
        let template = Template::parse("{{.Status}}|{{.ID}}|{{.From}}|{{.Scope}}|{{.TimeNano}}|{{.Actor.ID}}").unwrap();
        let whole = Template::parse("{{.}} {{json .}}").unwrap();
        let shown = |template: &Template, kind: &str, attributes: Value| {
            let event = json!({"Type": kind, "Action": "start", "Actor": {"ID": "abc", "Attributes": attributes},
                "scope": "local", "time": 1, "timeNano": 2});
            template.execute(&Val::typed(completed(event), "*events.Message")).unwrap()
        };
        let image = || json!({"image": "busybox"});
        assert_eq!(shown(&template, "container", image()), "start|abc|busybox|local|2|abc");
        assert_eq!(shown(&template, "image", json!({})), "start|abc||local|2|abc");
        assert_eq!(shown(&template, "network", json!({})), "|||local|2|abc");
        assert_eq!(
            shown(&whole, "container", image()),
            r#"{start abc busybox container start {abc map[image:busybox]} local 1 2} {"status":"start","id":"abc","from":"busybox","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"busybox"}},"scope":"local","time":1,"timeNano":2}"#
        );
        assert_eq!(
            shown(&whole, "volume", json!({})),
            r#"{   volume start {abc map[]} local 1 2} {"Type":"volume","Action":"start","Actor":{"ID":"abc","Attributes":{}},"scope":"local","time":1,"timeNano":2}"#
        );
        let id = Template::parse("{{.id}}").unwrap().execute(&Val::typed(json!({"id": "a"}), "*events.Message"));
        assert!(id.unwrap_err().ends_with("can't evaluate field id in type *events.Message"));
    }

    #[test]
    fn an_event_is_one_line_with_sorted_attributes() {
        let event = json!({"Type": "container", "Action": "start", "timeNano": 1_795_309_915_044_218_839_i64, "time": 1,
            "Actor": {"ID": "abc", "Attributes": {"name": "x", "image": "b"}}});
        let line = line(&event);
        assert!(line.ends_with(" container start abc (image=b, name=x)"), "{line}");
        assert!(line.contains(".044218839"), "{line}");
    }
}
