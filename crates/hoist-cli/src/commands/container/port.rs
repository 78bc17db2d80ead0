//! `port`: where the ports of a container are published.

use hoist_client::Request;
use serde_json::Value;

use super::{super::Command, path};
use crate::{
    app::{App, Outcome},
    flags::{Parsed, check},
};

pub(crate) const COMMAND: Command = Command::action(
    "port",
    "Show where a container's ports are published",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    (1, 2),
    run,
)
.aliases(&["container port", "port"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let name = &args.args[0];
    let container: Value = app.client()?.call(Request::get(path(name, "json")))?.json()?;
    let ports = &container["NetworkSettings"]["Ports"];
    if let Some(asked) = args.args.get(1) {
        let (port, proto) = asked.split_once('/').unwrap_or((asked, "tcp"));
        check::uint16(port).map_err(|why| format!("Error: invalid port ({port}): {why}"))?;
        let lines = lines(&ports[format!("{port}/{}", proto.to_lowercase())]);
        if lines.is_empty() {
            return Err(format!("Error: No public port '{asked}' published for {name}").into());
        }
        lines.iter().for_each(|line| println!("{line}"));
        return Ok(());
    }
    let mut all: Vec<(u16, &str, String)> = Vec::new();
    for (port, bindings) in ports.as_object().into_iter().flatten() {
        let number = port.split('/').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        all.extend(lines(bindings).into_iter().map(|line| (number, port.as_str(), line)));
    }
    all.sort_by(|left, right| (left.0, left.1).cmp(&(right.0, right.1)));
    all.iter().for_each(|(_, port, line)| println!("{port} -> {line}"));
    Ok(())
}

fn lines(bindings: &Value) -> Vec<String> {
    let line = |binding: &Value| {
        let text = |key: &str| binding[key].as_str().unwrap_or_default().to_owned();
        let (ip, port) = (text("HostIp"), text("HostPort"));
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    };
    bindings.as_array().into_iter().flatten().map(line).collect()
}
