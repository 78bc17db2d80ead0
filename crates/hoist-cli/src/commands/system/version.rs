//! `version`: of the client and the engine.

use hoist_client::{Client, Request};
use serde_json::{Value, json};

use super::super::Command;
use crate::{
    app::{App, Failure, Outcome, VERSION},
    flags::{Flag, Parsed, text},
    format::{json, table, time},
    template::{Template, Val},
};

const FLAGS: &[Flag] = &[text(
    'f',
    "format",
    "Print with a custom template:
'json':             JSON on one line
'TEMPLATE':         The Go template",
)];

pub(crate) const COMMAND: Command =
    Command::action("version", "Show version information of client and engine", "[OPTIONS]", (0, 0), run)
        .flags(&[FLAGS]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let format = args.text("format");
    let template = match format {
        "" | "json" => None,
        source => Some(
            Template::parse_named("version", source)
                .map_err(|why| Failure::new(64, format!("template parsing error: {why}")))?,
        ),
    };
    let (server, failure) = match ask(app) {
        Ok(server) => (server, None),
        Err(failure) => (Value::Null, Some(failure)),
    };
    let both = json!({"Client": client(app), "Server": server});
    let text = match (&template, format) {
        (Some(template), _) => {
            let typed = template.execute(&Val::typed(both.clone(), "system.versionInfo"));
            match typed.clone().or_else(|_| template.execute(&Val::raw(both))).or(typed) {
                Ok(text) => format!("{text}\n"),
                Err(why) => {
                    println!();
                    // without an engine there is nothing to print of it
                    return Err(failure.unwrap_or_else(|| why.into()));
                }
            }
        }
        (None, "json") => format!("{}\n", json::escape_html(&json::encode(&both))),
        (None, _) => table::align(&pretty(&both), LAYOUT),
    };
    print!("{text}");
    failure.map_or(Ok(()), Err)
}

const LAYOUT: table::Layout = table::Layout { min_width: 20, padding: 1 };

fn ask(app: &App) -> Outcome<Value> {
    let mut server: Value = app.client()?.call(Request::get("/version"))?.json()?;
    for component in server["Components"].as_array_mut().into_iter().flatten() {
        if let Some(built) = component["Details"]["BuildTime"].as_str().map(time::ansi_c) {
            component["Details"]["BuildTime"] = built.into();
        }
    }
    Ok(server)
}

fn client(app: &App) -> Value {
    let version = match app.client() {
        Ok(client) => client.version(),
        Err(_) => Client::newest_version(),
    };
    json!({
        "Platform": {"Name": "Hoist"},
        "Version": VERSION,
        "ApiVersion": version,
        "DefaultAPIVersion": Client::newest_version(),
        "GitCommit": option_env!("HOIST_BUILD").unwrap_or("unknown"),
        "Os": std::env::consts::OS,
        "Arch": go_arch(),
        "Context": "default",
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn pretty(both: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (client, server) = (&both["Client"], &both["Server"]);
    let mut out = format!("Client: {}\n", text(&client["Platform"]["Name"]));
    out += &format!(" Version:\t{}\n API version:\t{}", text(&client["Version"]), text(&client["ApiVersion"]));
    if client["ApiVersion"] != client["DefaultAPIVersion"] {
        out += &format!(" (downgraded from {})", text(&client["DefaultAPIVersion"]));
    }
    out += &format!("\n Git commit:\t{}\n", text(&client["GitCommit"]));
    out += &format!(
        " OS/Arch:\t{}/{}\n Context:\t{}\n",
        text(&client["Os"]),
        text(&client["Arch"]),
        text(&client["Context"])
    );
    if server.is_null() {
        return out;
    }
    let name = text(&server["Platform"]["Name"]);
    out += &format!("\nServer:{}{name}\n", if name.is_empty() { "" } else { " " });
    for component in server["Components"].as_array().into_iter().flatten() {
        out += &component_lines(component);
    }
    out
}

fn component_lines(component: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let details = &component["Details"];
    let mut out = format!(" {}:\n  Version:\t{}\n", text(&component["Name"]), text(&component["Version"]));
    if component["Name"] != "Engine" {
        let pairs = details.as_object().into_iter().flatten();
        return pairs.fold(out, |out, (key, value)| out + &format!("  {key}:\t{}\n", text(value)));
    }
    let (api, least) = (text(&details["ApiVersion"]), text(&details["MinAPIVersion"]));
    out += &format!("  API version:\t{api} (minimum version {least})\n");
    for (key, title) in [("GoVersion", "Go version"), ("GitCommit", "Git commit"), ("BuildTime", "Built")] {
        let value = text(&details[key]);
        if !value.is_empty() {
            out += &format!("  {title}:\t{value}\n");
        }
    }
    out += &format!("  OS/Arch:\t{}/{}\n", text(&details["Os"]), text(&details["Arch"]));
    out + &format!("  Experimental:\t{}\n", text(&details["Experimental"]))
}
