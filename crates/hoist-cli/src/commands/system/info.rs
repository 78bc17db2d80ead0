//! `info`: the engine and the machine it runs on.

use hoist_client::Request;
use serde_json::{Value, json};

use super::super::Command;
use crate::{
    app::{App, Failure, Outcome, VERSION},
    flags::{Flag, Parsed, text},
    format::{json, units},
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
    Command::action("info", "Show what the engine and its machine are", "[OPTIONS]", (0, 0), run)
        .flags(&[FLAGS])
        .aliases(&["system info", "info"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let broken = |why: String| Failure::new(64, format!("template parsing error: {why}"));
    let format = args.text("format");
    let template = match format {
        "" | "json" => None,
        source => Some(Template::parse(source).map_err(broken)?),
    };
    let client = json!({"Debug": app.globals.is("debug"), "Version": VERSION, "Context": "default", "Plugins": [], "Warnings": null});
    let asked: Outcome<Value> = app.client().and_then(|client| Ok(client.call(Request::get("/info"))?.json()?));
    if let Some(template) = template {
        let mut info = asked?;
        info["ClientInfo"] = client;
        let typed = template.execute(&Val::typed(info, "system.dockerInfo"));
        println!("{}", typed.as_deref().unwrap_or_default());
        return Ok(typed.map(drop)?);
    }
    let (info, failure) = match asked {
        Ok(info) => (info, None),
        Err(failure) => (Value::Null, Some(failure)),
    };
    if format == "json" {
        let mut whole = if info.is_object() { info } else { json!({}) };
        if let Some(failure) = &failure {
            whole["ServerErrors"] = json!([failure.text]);
        }
        whole["ClientInfo"] = client;
        println!("{}", json::escape_html(&json::encode(&whole)));
        return Ok(());
    }
    print!(
        "Client:\n Version:    {VERSION}\n Context:    default\n Debug Mode: {}\n\nServer:\n",
        app.globals.is("debug")
    );
    if let Some(failure) = failure {
        let text = failure.text.clone();
        return Err(Failure::new(failure.code, format!("{text}\nerrors pretty printing info")));
    }
    print!("{}", server(&info));
    for warning in info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("{warning}");
    }
    Ok(())
}

/// Lines of names and values, those without a value left out.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, title: &str, value: impl AsRef<str>) {
        self.0 += &format!(" {title}: {}\n", value.as_ref());
    }

    fn add_known(&mut self, title: &str, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.add(title, text);
        }
    }

    fn inner(&mut self, title: &str, value: impl AsRef<str>) {
        self.0 += &format!("  {title}: {}\n", value.as_ref());
    }
}

fn words(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

fn server(info: &Value) -> String {
    let mut lines = Lines::default();
    let number = |key: &str| info[key].as_i64().unwrap_or_default().to_string();
    lines.add("Containers", number("Containers"));
    lines.inner("Running", number("ContainersRunning"));
    lines.inner("Paused", number("ContainersPaused"));
    lines.inner("Stopped", number("ContainersStopped"));
    lines.add("Images", number("Images"));
    lines.add_known("Server Version", &info["ServerVersion"]);
    lines.add_known("Storage Driver", &info["Driver"]);
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        lines.inner(pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
    }
    lines.add_known("Logging Driver", &info["LoggingDriver"]);
    lines.add_known("Cgroup Driver", &info["CgroupDriver"]);
    lines.add_known("Cgroup Version", &info["CgroupVersion"]);
    lines.0 += " Plugins:\n";
    for kind in ["Volume", "Network", "Log"] {
        lines.inner(kind, words(&info["Plugins"][kind]));
    }
    lines.add("Swarm", info["Swarm"]["LocalNodeState"].as_str().unwrap_or("inactive"));
    if let Some(dirs) = info["CDISpecDirs"].as_array().filter(|dirs| !dirs.is_empty()) {
        lines.0 += " CDI spec directories:\n";
        dirs.iter().filter_map(Value::as_str).for_each(|dir| lines.0 += &format!("  {dir}\n"));
    }
    let runtimes = info["Runtimes"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let mut runtimes: Vec<&str> = runtimes.collect();
    runtimes.sort_unstable();
    lines.add("Runtimes", runtimes.join(" "));
    lines.add_known("Default Runtime", &info["DefaultRuntime"]);
    lines.add_known("Init Binary", &info["InitBinary"]);
    for (key, title) in
        [("ContainerdCommit", "containerd version"), ("RuncCommit", "runc version"), ("InitCommit", "init version")]
    {
        if let Some(id) = info[key]["ID"].as_str() {
            lines.add(title, id);
        }
    }
    security(info, &mut lines);
    machine(info, &mut lines);
    lines.0
}

fn security(info: &Value, lines: &mut Lines) {
    let options = info["SecurityOptions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if options.is_empty() {
        return;
    }
    lines.0 += " Security Options:\n";
    for option in options.iter().filter_map(Value::as_str) {
        let mut pairs = option.split(',').filter_map(|pair| pair.split_once('='));
        if let Some((_, name)) = pairs.next() {
            lines.0 += &format!("  {name}\n");
        }
        for (key, value) in pairs {
            let title = if key == "profile" { "Profile" } else { key };
            lines.0 += &format!("   {title}: {value}\n");
        }
    }
}

fn machine(info: &Value, lines: &mut Lines) {
    for (key, title) in [
        ("KernelVersion", "Kernel Version"),
        ("OperatingSystem", "Operating System"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ] {
        lines.add_known(title, &info[key]);
    }
    lines.add("CPUs", info["NCPU"].to_string());
    lines.add("Total Memory", units::bytes_size(info["MemTotal"].as_f64().unwrap_or_default()));
    for (key, title) in [("Name", "Name"), ("ID", "ID"), ("DockerRootDir", "Docker Root Dir")] {
        lines.add_known(title, &info[key]);
    }
    lines.add("Debug Mode", info["Debug"].as_bool().unwrap_or_default().to_string());
    for (key, title) in [("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy")] {
        lines.add_known(title, &info[key]);
    }
    let list = |lines: &mut Lines, title: &str, value: &Value| {
        let items: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !items.is_empty() {
            lines.0 += &format!(" {title}:\n");
            items.iter().for_each(|item| lines.0 += &format!("  {item}\n"));
        }
    };
    list(lines, "Labels", &info["Labels"]);
    lines.add("Experimental", info["ExperimentalBuild"].as_bool().unwrap_or_default().to_string());
    let registry = &info["RegistryConfig"];
    let insecure =
        registry["IndexConfigs"].as_object().into_iter().flatten().filter(|(_, config)| config["Secure"] == false);
    let mut registries: Vec<Value> = insecure.map(|(name, _)| name.as_str().into()).collect();
    registries.extend(registry["InsecureRegistryCIDRs"].as_array().into_iter().flatten().cloned());
    list(lines, "Insecure Registries", &Value::Array(registries));
    list(lines, "Registry Mirrors", &registry["Mirrors"]);
    lines.add("Live Restore Enabled", info["LiveRestoreEnabled"].as_bool().unwrap_or_default().to_string());
    if let Some(pools) = info["DefaultAddressPools"].as_array().filter(|pools| !pools.is_empty()) {
        lines.0 += " Default Address Pools:\n";
        for pool in pools {
            lines.0 += &format!("   Base: {}, Size: {}\n", pool["Base"].as_str().unwrap_or_default(), pool["Size"]);
        }
    }
    lines.add_known("Firewall Backend", &info["FirewallBackend"]["Driver"]);
    lines.0.push('\n');
}
