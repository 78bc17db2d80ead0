//! `ps`: the list of containers.

use std::collections::{BTreeMap, HashMap};

use hoist_api::reference::Reference;
use hoist_client::Request;
use serde_json::{Map, Value};

use super::super::{Command, FORMAT_HELP};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, check, switch, text, value},
    format::{
        list::{self, Row},
        text::{ellipsis, short_id},
        time, units,
    },
    opts::filter,
    template::{Nil, Val},
};

const FLAGS: &[Flag] = &[
    switch('a', "all", "Show all containers (default shows just running)"),
    value('f', "filter", "filter", filter::check, "Show only what fulfils the conditions"),
    text('\0', "format", FORMAT_HELP),
    value('n', "last", "int", check::int, "Show the n containers created last, in any state").or("-1"),
    switch('l', "latest", "Show the container created last, in any state"),
    switch('\0', "no-trunc", "Do not shorten output"),
    switch('q', "quiet", "Show IDs only"),
    switch('s', "size", "Show total file sizes"),
];

pub(crate) const COMMAND: Command = Command::action("ls", "Show containers", "[OPTIONS]", (0, 0), run)
    .flags(&[FLAGS])
    .also(&["ps", "list"])
    .aliases(&["container ls", "container list", "container ps", "ps"]);

const DEFAULT: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

fn run(app: &App, args: &Parsed) -> Outcome {
    let quiet = args.is("quiet");
    let format = match args.text("format") {
        "" => app.config().ps_format.clone().unwrap_or_default(),
        given => {
            if quiet {
                eprintln!("WARNING: Ignoring custom format, because both --format and --quiet are set.");
            }
            given.to_owned()
        }
    };
    let is_plain = matches!(format.as_str(), "" | "table" | "raw");
    if !is_plain {
        list::check::<Container>(&format)?;
    }
    let size = args.is("size") || (!is_plain && !quiet && !args.has("size") && wants_size(&format));
    let mut request = Request::get("/containers/json").switch("all", args.is("all")).switch("size", size);
    let last = args.int("last").unwrap_or(-1);
    let limit = if args.is("latest") && last == -1 { 1 } else { last };
    if limit > 0 {
        request = request.query("limit", limit.to_string());
    }
    request = filter::add(request, &args.all("filter"));
    let items: Vec<Value> = app.client()?.call(request)?.json()?;
    let trunc = !args.is("no-trunc");
    let rows = items.into_iter().map(|item| Container { item, trunc });
    list::print(&template(&format, quiet, size), rows)
}

/// Does the template print sizes, by name or with the whole row? They are costly. `json` alone does not, as with Docker.
fn wants_size(format: &str) -> bool {
    let follows = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    list::mentions(format, ".Size") || format.split("json .").skip(1).any(|rest| !follows(rest))
}

fn template(format: &str, quiet: bool, size: bool) -> String {
    match format {
        "raw" if quiet => "container_id: {{.ID}}".to_owned(),
        "raw" => raw_template(size),
        _ if quiet => "{{.ID}}".to_owned(),
        "" | "table" if size => format!("{DEFAULT}\t{{{{.Size}}}}"),
        "" | "table" => DEFAULT.to_owned(),
        custom => custom.to_owned(),
    }
}

fn raw_template(size: bool) -> String {
    let mut lines =
        String::from("container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n");
    for (title, column) in [("state", "State"), ("status", "Status")] {
        lines.push_str(&format!("{title}: {{{{- pad .{column} 1 0}}}}\n"));
    }
    lines.push_str("names: {{.Names}}\n");
    for (title, column) in [("labels", "Labels"), ("ports", "Ports")] {
        lines.push_str(&format!("{title}: {{{{- pad .{column} 1 0}}}}\n"));
    }
    if size {
        lines.push_str("size: {{.Size}}\n");
    }
    lines
}

/// A row of the list.
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) item: Value,
    pub(crate) trunc: bool,
}

impl Container {
    fn str(&self, key: &str) -> &str {
        self.item[key].as_str().unwrap_or_default()
    }

    fn names(&self) -> String {
        let names = self.item["Names"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names = names.iter().filter_map(Value::as_str).map(|name| name.strip_prefix('/').unwrap_or(name));
        if self.trunc {
            // names with a slash are aliases that links made
            return names.find(|name| !name.contains('/')).unwrap_or_default().to_owned();
        }
        names.collect::<Vec<_>>().join(",")
    }

    fn image(&self) -> String {
        let image = self.str("Image");
        if image.is_empty() {
            return "<no image>".to_owned();
        }
        if !self.trunc {
            return image.to_owned();
        }
        let short = short_id(self.str("ImageID"));
        if !short.is_empty() && short == short_id(image) {
            return short.to_owned();
        }
        match Reference::parse(image) {
            Ok(reference) => Reference { digest: None, ..reference }.familiar(),
            Err(_) => image.to_owned(),
        }
    }

    fn labels(&self) -> String {
        let labels: BTreeMap<&str, &str> = pairs(&self.item["Labels"]).collect();
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    fn mounts(&self) -> Vec<&Map<String, Value>> {
        self.item["Mounts"].as_array().into_iter().flatten().filter_map(Value::as_object).collect()
    }

    fn size(&self) -> String {
        let (own, root) = (self.item["SizeRw"].as_f64(), self.item["SizeRootFs"].as_f64().unwrap_or_default());
        let own = units::human_size_short(own.unwrap_or_default());
        if root > 0.0 { format!("{own} (virtual {})", units::human_size_short(root)) } else { own }
    }

    fn health(&self) -> String {
        if let Some(status) = self.item["Health"]["Status"].as_str() {
            return status.to_owned();
        }
        // engines before API 1.52 tell it in the status text only
        let inner = self.str("Status").split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        match inner.map(|text| text.trim_start_matches("health: ")) {
            Some(status @ ("healthy" | "unhealthy" | "starting")) => status.to_owned(),
            _ => String::new(),
        }
    }
}

fn pairs(value: &Value) -> impl Iterator<Item = (&str, &str)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

impl Row for Container {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ];
    const TYPE_NAME: &'static str = "*formatter.ContainerContext";

    fn column(&self, name: &str) -> Option<Val> {
        let created = self.item["Created"].as_i64().unwrap_or_default();
        let id = self.str("Id");
        Some(Val::text(match name {
            "ID" if self.trunc => short_id(id).to_owned(),
            "ID" => id.to_owned(),
            "Names" => self.names(),
            "Image" => self.image(),
            "Command" if self.trunc => check::quote(&ellipsis(self.str("Command"), 20)),
            "Command" => check::quote(self.str("Command")),
            "CreatedAt" => time::go_string(created),
            "RunningFor" => time::ago(created),
            "Ports" => ports(&self.item["Ports"]),
            "State" => self.str("State").to_owned(),
            "Status" => self.str("Status").to_owned(),
            "HealthStatus" => self.health(),
            "Size" => self.size(),
            "Labels" => self.labels(),
            "Mounts" => {
                let names = self.mounts().into_iter().map(|mount| {
                    let text = |key: &str| mount.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
                    let name = text("Name").or_else(|| text("Source")).unwrap_or_default();
                    if self.trunc { ellipsis(name, 15) } else { name.to_owned() }
                });
                names.collect::<Vec<_>>().join(",")
            }
            "LocalVolumes" => {
                let is_local =
                    |mount: &&Map<String, Value>| mount.get("Driver").is_some_and(|driver| driver == "local");
                self.mounts().iter().filter(|mount| is_local(mount)).count().to_string()
            }
            "Networks" => {
                let networks = self.item["NetworkSettings"]["Networks"].as_object();
                networks.into_iter().flatten().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
            }
            "Platform" => return Some(self.platform()),
            _ => return None,
        }))
    }

    fn method(&self, name: &str, args: &[Val]) -> Option<Result<Val, String>> {
        match (name, args) {
            ("Label", [Val::Text(label)]) => {
                Some(Ok(Val::text(self.item["Labels"][label].as_str().unwrap_or_default())))
            }
            ("Label", args) => Some(Err(format!("wrong number of args for Label: want 1 got {}", args.len()))),
            _ => None,
        }
    }
}

impl Container {
    fn platform(&self) -> Val {
        let platform = &self.item["ImageManifestDescriptor"]["platform"];
        let (Some(os), Some(architecture)) = (platform["os"].as_str(), platform["architecture"].as_str()) else {
            return Val::Nil(Nil::Pointer);
        };
        let variant = platform["variant"].as_str().map(|variant| format!("/{variant}")).unwrap_or_default();
        Val::Text(format!("{os}/{architecture}{variant}"))
    }
}

/// The ports of a container, runs of equal mappings joined to ranges.
fn ports(value: &Value) -> String {
    let number = |port: &Value, key: &str| port[key].as_u64().unwrap_or_default();
    let mut ports: Vec<(u64, &str, u64, &str)> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let text = |key: &str| port[key].as_str().unwrap_or_default();
            (number(port, "PrivatePort"), text("IP"), number(port, "PublicPort"), text("Type"))
        })
        .collect();
    ports.sort_by_key(|&(private, ip, public, kind)| (private, ip.parse::<std::net::IpAddr>().ok(), public, kind));
    let mut groups: HashMap<String, (u64, u64)> = HashMap::new();
    let mut order = Vec::new();
    let mut shown = Vec::new();
    let mut mapped = Vec::new();
    for (private, ip, public, kind) in ports {
        let mut key = kind.to_owned();
        if !ip.is_empty() {
            if public != private {
                mapped.push(format!("{}:{public}->{private}/{kind}", bracketed(ip)));
                continue;
            }
            key = format!("{ip}/{kind}");
        }
        match groups.get_mut(&key) {
            None => {
                groups.insert(key.clone(), (private, private));
                order.push(key);
            }
            Some((_, last)) if private == *last + 1 => *last = private,
            Some(range) => {
                shown.push(group_text(&key, *range));
                *range = (private, private);
            }
        }
    }
    shown.extend(order.iter().filter_map(|key| Some(group_text(key, *groups.get(key)?))));
    shown.extend(mapped);
    shown.join(", ")
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

fn group_text(key: &str, (first, last): (u64, u64)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match key.split_once('/') {
        Some((ip, kind)) => format!("{}:{range}->{range}/{kind}", bracketed(ip)),
        None => format!("{range}/{key}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        let port = |ip: &str, private: u16, public: u16| json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": "tcp"});
        let mut list = vec![port("0.0.0.0", 80, 8080), port("::", 80, 8080), json!({"PrivatePort": 53, "Type": "udp"})];
        for number in 9000..=9002 {
            list.extend([port("0.0.0.0", number, number), port("::", number, number)]);
        }
        assert_eq!(
            ports(&Value::Array(list)),
            "53/udp, 0.0.0.0:9000-9002->9000-9002/tcp, [::]:9000-9002->9000-9002/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            ports(&json!([{"PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 82, "Type": "tcp"}])),
            "80/tcp, 82/tcp"
        );
    }

    #[test]
    fn a_row_is_shortened_unless_forbidden() {
        let item = json!({
            "Id": "0123456789abcdef", "Names": ["/other/alias", "/web"], "Image": "sha256:fedcba9876543210",
            "ImageID": "sha256:fedcba9876543210", "Command": "sh -c 'while true; do sleep 1; done'",
            "Labels": {"b": "2", "a": "1"},
        });
        let text =
            |trunc, name: &str| Container { item: item.clone(), trunc }.column(name).map(|v| format!("{}", Shown(v)));
        assert_eq!(text(true, "ID").unwrap(), "0123456789ab");
        assert_eq!(text(true, "Names").unwrap(), "web");
        assert_eq!(text(false, "Names").unwrap(), "other/alias,web");
        assert_eq!(text(true, "Image").unwrap(), "fedcba987654");
        assert_eq!(text(true, "Command").unwrap(), "\"sh -c 'while true; …\"");
        assert_eq!(text(true, "Labels").unwrap(), "a=1,b=2");
    }

    #[test]
    fn sizes_are_asked_for_where_they_are_printed() {
        for format in ["{{.Size}}", "{{json .}}", "{{.ID}} {{json . }}", "table {{.ID}}\t{{.Size}}"] {
            assert!(wants_size(format), "{format}");
        }
        for format in ["json", "{{.ID}}", "{{json .Names}}", "{{json .ID}} {{.Image}}"] {
            assert!(!wants_size(format), "{format}");
        }
    }

    struct Shown(Val);

    impl std::fmt::Display for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match &self.0 {
                Val::Text(text) => f.write_str(text),
                _ => f.write_str("?"),
            }
        }
    }
}
