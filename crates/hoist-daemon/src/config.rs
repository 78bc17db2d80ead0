//! Flags of `hoist engine` and of dockerd, and `daemon.json`, resolved to one [`Config`]. Flags win; a setting given in
//! both places is refused, as dockerd does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hoist_api::host_config::{LogConfig, Ulimit};
use hoist_engine::{RuntimeBinary, Settings};
use serde_json::{Map, Value};

/// Everything an engine process was told.
#[derive(Debug)]
pub(crate) struct Config {
    pub settings: Settings,
    /// `unix:///path`, `tcp://ip:port`, `fd://`
    pub hosts: Vec<String>,
    pub group: Option<String>,
    pub pid_file: Option<PathBuf>,
    pub log_level: String,
    /// Started by a client that found no engine.
    pub autostarted: bool,
}

/// Which names the flags have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Hoist,
    /// Started under the name `dockerd`.
    Dockerd,
}

impl Dialect {
    pub(crate) fn of(args: &[OsString]) -> Dialect {
        let name = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        if name == "dockerd" { Dialect::Dockerd } else { Dialect::Hoist }
    }
}

/// Why there is no configuration.
pub(crate) enum Stop {
    /// Help or a usage error, already printed.
    Shown(ExitCode),
    Bad(String),
}

/// Takes one value.
fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::Set).num_args(1)
}

/// May be given many times.
fn list(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::Append).num_args(1)
}

/// On, off, or `--x=false`.
fn switch(name: &'static str, default: bool, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(if default { "true" } else { "false" })
        .value_parser(clap::builder::BoolishValueParser::new())
}

/// The command line, in the dialect's spelling.
pub(crate) fn command(dialect: Dialect) -> Command {
    let dockerd = dialect == Dialect::Dockerd;
    let (root, run_dir) = if dockerd { ("data-root", "exec-root") } else { ("root", "run-dir") };
    let name = if dockerd { "dockerd" } else { "hoist engine" };
    Command::new(name)
        .bin_name(name)
        .about("Run the engine in the foreground")
        .version(env!("CARGO_PKG_VERSION"))
        .arg(value(root, "Directory for images, containers and volumes").id("root").visible_alias(if dockerd {
            "graph"
        } else {
            "data-root"
        }))
        .arg(value(run_dir, "Directory for run-time state").id("run-dir").visible_alias(if dockerd {
            "run-dir"
        } else {
            "exec-root"
        }))
        .arg(list("host", "Address to listen on: unix:///path, tcp://ip:port").short('H'))
        .arg(switch("docker-socket", false, "Serve /var/run/docker.sock too"))
        .arg(value("pidfile", "File for the engine's process id").short('p'))
        .arg(value("config-file", "JSON configuration file (daemon.json)"))
        .arg(value("log-level", "Logging level: debug, info, warn, error, fatal").short('l'))
        .arg(switch("debug", false, "Same as --log-level debug").short('D'))
        .arg(value("group", "Group that owns the unix socket").short('G'))
        .arg(value("bridge", "Name of the default bridge device").short('b'))
        .arg(value("bip", "Address and prefix of the default bridge, e.g. 10.9.0.1/24"))
        .arg(value("fixed-cidr", "Range of the bridge's subnet to hand out addresses from"))
        .arg(list("default-address-pool", "Pool for networks: base=CIDR,size=PREFIX"))
        .arg(value("mtu", "MTU of the default bridge's containers"))
        .arg(list("dns", "DNS server for containers"))
        .arg(list("dns-search", "DNS search domain for containers"))
        .arg(list("dns-opt", "DNS option for containers"))
        .arg(list("registry-mirror", "Mirror of Docker Hub to ask first"))
        .arg(list("insecure-registry", "Registry to speak to without verified TLS"))
        .arg(list("default-ulimit", "Default ulimit for containers: name=soft[:hard]"))
        .arg(value("default-runtime", "OCI runtime for containers that name none"))
        .arg(list("add-runtime", "Register an OCI runtime: name=/path"))
        .arg(list("label", "Label of this engine: key=value"))
        .arg(value("log-driver", "Default log driver for containers"))
        .arg(list("log-opt", "Default log option for containers: key=value"))
        .arg(switch("icc", true, "Let containers on the default bridge reach each other"))
        .arg(value("ip", "Default host address for published ports"))
        .arg(switch("live-restore", !dockerd, "Leave containers running when the engine ends"))
        .arg(switch("userland-proxy", true, "Serve published ports on loopback by a proxy"))
        .arg(switch("init", false, "Run an init in every container"))
        .arg(value("cgroup-parent", "Control group below which containers are put"))
        .arg(value("default-shm-size", "Default size of /dev/shm"))
        .arg(value("host-gateway-ip", "Address that host-gateway stands for"))
        .arg(switch("autostarted", false, "Started by a client").hide(true))
        // Docker's flags whose default is what this engine does; any other value is refused by name.
        .arg(switch("iptables", true, "Manage packet filter rules").hide(!dockerd))
        .arg(switch("ip6tables", true, "Manage IPv6 packet filter rules").hide(!dockerd))
        .arg(switch("ip-forward", true, "Enable IP forwarding").hide(!dockerd))
        .arg(switch("ip-masq", true, "Masquerade the bridge's traffic").hide(!dockerd))
        .arg(value("storage-driver", "Storage driver: overlay2").short('s').hide(!dockerd))
        .arg(value("containerd", "Not used: this engine needs no containerd").hide(true))
}

/// Reads flags and file.
pub(crate) fn read(args: Vec<OsString>, dialect: Dialect) -> Result<Config, Stop> {
    let matches = command(dialect).try_get_matches_from(args).map_err(|e| {
        _ = e.print();
        Stop::Shown(ExitCode::from(if e.use_stderr() { 125 } else { 0 }))
    })?;
    let source = Source { file: read_file(&matches, dialect).map_err(Stop::Bad)?, matches };
    resolve(&source, dialect).map_err(Stop::Bad)
}

fn read_file(matches: &ArgMatches, dialect: Dialect) -> Result<Map<String, Value>, String> {
    let named = matches.get_one::<String>("config-file").map(PathBuf::from);
    let default = if dialect == Dialect::Dockerd { "/etc/docker/daemon.json" } else { "/etc/hoist/engine.json" };
    let path = named.clone().unwrap_or_else(|| PathBuf::from(default));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => return Ok(Map::new()),
        Err(e) => return Err(format!("unable to configure the engine with file {}: {e}", path.display())),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(format!("unable to configure the engine with file {}: it is not a JSON object", path.display())),
        Err(e) => Err(format!("unable to configure the engine with file {}: {e}", path.display())),
    }
}

/// Keys of `daemon.json` whose name differs from the flag's.
const FILE_KEYS: [(&str, &str); 12] = [
    ("data-root", "root"),
    ("exec-root", "run-dir"),
    ("root", "root"),
    ("run-dir", "run-dir"),
    ("hosts", "host"),
    ("dns-opts", "dns-opt"),
    ("registry-mirrors", "registry-mirror"),
    ("insecure-registries", "insecure-registry"),
    ("default-ulimits", "default-ulimit"),
    ("runtimes", "add-runtime"),
    ("labels", "label"),
    ("log-opts", "log-opt"),
];

struct Source {
    matches: ArgMatches,
    file: Map<String, Value>,
}

impl Source {
    fn on_line(&self, flag: &str) -> bool {
        self.matches.value_source(flag) == Some(clap::parser::ValueSource::CommandLine)
    }

    fn in_file(&self, flag: &str) -> Option<&Value> {
        self.file.iter().find(|(key, _)| file_flag(key) == flag).map(|(_, value)| value)
    }

    fn text(&self, flag: &str) -> Result<Option<String>, String> {
        if let Some(text) = self.matches.get_one::<String>(flag) {
            return Ok(Some(text.clone()));
        }
        match self.in_file(flag) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(format!("configuration key {flag}: a text is expected, not {other}")),
        }
    }

    fn flag(&self, flag: &str) -> Result<bool, String> {
        if self.on_line(flag) {
            return Ok(self.matches.get_one::<bool>(flag).copied().unwrap_or_default());
        }
        match self.in_file(flag) {
            None => Ok(self.matches.get_one::<bool>(flag).copied().unwrap_or_default()),
            Some(Value::Bool(on)) => Ok(*on),
            Some(other) => Err(format!("configuration key {flag}: true or false is expected, not {other}")),
        }
    }

    fn texts(&self, flag: &str) -> Result<Vec<String>, String> {
        if let Some(values) = self.matches.get_many::<String>(flag) {
            return Ok(values.cloned().collect());
        }
        match self.in_file(flag) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| format!("configuration key {flag}: a list of texts is expected"))
                })
                .collect(),
            Some(Value::Object(map)) => Ok(map
                .iter()
                .map(|(k, v)| format!("{k}={}", v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
                .collect()),
            Some(other) => Err(format!("configuration key {flag}: a list is expected, not {other}")),
        }
    }
}

fn file_flag(key: &str) -> &str {
    FILE_KEYS.iter().find(|(file, _)| *file == key).map_or(key, |(_, flag)| flag)
}

fn resolve(source: &Source, dialect: Dialect) -> Result<Config, String> {
    check_file_keys(source, dialect)?;
    refuse_other_values(source)?;
    let (root, run_dir) = match dialect {
        Dialect::Hoist => ("/var/lib/hoist", "/run/hoist"),
        Dialect::Dockerd => ("/var/lib/docker", "/var/run/docker"),
    };
    let run_dir = PathBuf::from(source.text("run-dir")?.unwrap_or_else(|| run_dir.to_owned()));
    let mut hosts = source.texts("host")?;
    if hosts.is_empty() {
        hosts.push(match dialect {
            Dialect::Hoist => format!("unix://{}/hoist.sock", run_dir.display()),
            Dialect::Dockerd => "unix:///var/run/docker.sock".to_owned(),
        });
    }
    if source.flag("docker-socket")? {
        hosts.push("unix:///var/run/docker.sock".to_owned());
    }
    let debug = source.flag("debug")?;
    let level = source.text("log-level")?.unwrap_or_else(|| if debug { "debug" } else { "info" }.to_owned());
    let log_level = match level.as_str() {
        "debug" | "info" | "warn" | "error" | "trace" => level.clone(),
        "fatal" | "panic" => "error".to_owned(),
        _ => return Err(format!("invalid logging level: {level}")),
    };
    let settings = Settings {
        root: PathBuf::from(source.text("root")?.unwrap_or_else(|| root.to_owned())),
        run_dir: run_dir.clone(),
        image: hoist_image::Config {
            registry_mirrors: source.texts("registry-mirror")?,
            insecure_registries: source.texts("insecure-registry")?,
            ..hoist_image::Config::default()
        },
        network: network(source, dialect)?,
        cgroup_parent: source.text("cgroup-parent")?.unwrap_or_else(|| "/hoist".to_owned()),
        dns: addresses(source, "dns")?,
        dns_search: source.texts("dns-search")?,
        dns_options: source.texts("dns-opt")?,
        default_ulimits: ulimits(source)?,
        default_runtime: source.text("default-runtime")?.unwrap_or_else(|| "runc".to_owned()),
        runtimes: runtimes(source)?,
        labels: labels(source)?,
        log: log(source)?,
        live_restore: source.flag("live-restore")?,
        init: source.flag("init")?,
        shm_size_bytes: shm_size(source)?,
        host_gateway: source.text("host-gateway-ip")?.map(|ip| parse(&ip, "host-gateway-ip")).transpose()?,
        debug,
    };
    let known = |name: &str| matches!(name, "runc" | "hoist") || settings.runtimes.contains_key(name);
    if !known(&settings.default_runtime) {
        return Err(format!("specified default runtime '{}' does not exist", settings.default_runtime));
    }
    Ok(Config {
        settings,
        hosts,
        group: source.text("group")?.or_else(|| (dialect == Dialect::Dockerd).then(|| "docker".to_owned())),
        pid_file: source.text("pidfile")?.map(PathBuf::from),
        log_level,
        autostarted: source.flag("autostarted")?,
    })
}

fn check_file_keys(source: &Source, dialect: Dialect) -> Result<(), String> {
    let command = command(dialect);
    for key in source.file.keys() {
        let flag = file_flag(key);
        if !command.get_arguments().any(|a| a.get_id() == flag) {
            return Err(format!("the following directives don't match any configuration option: {key}"));
        }
        if source.on_line(flag) {
            return Err(format!(
                "the following directives are specified both as a flag and in the configuration file: {key}"
            ));
        }
    }
    Ok(())
}

/// Docker's flags that only have one value here.
fn refuse_other_values(source: &Source) -> Result<(), String> {
    for flag in ["iptables", "ip6tables", "ip-forward", "ip-masq", "userland-proxy"] {
        if !source.flag(flag)? {
            return Err(format!("--{flag}=false is not supported by this engine"));
        }
    }
    if let Some(driver) = source.text("storage-driver")?
        && driver != "overlay2"
    {
        return Err(format!("--storage-driver={driver} is not supported by this engine: it has overlay2 only"));
    }
    if source.text("containerd")?.is_some() {
        return Err("--containerd is not supported: this engine runs containers itself".to_owned());
    }
    Ok(())
}

fn parse<T: std::str::FromStr>(text: &str, flag: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("invalid value \"{text}\" for --{flag}"))
}

fn cidr(text: &str, flag: &str) -> Result<(Ipv4Addr, u8), String> {
    let bad = || format!("invalid value \"{text}\" for --{flag}: an IPv4 CIDR such as 10.9.0.1/24 is expected");
    let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
    let (ip, prefix) = (ip.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?);
    if prefix > 32 { Err(bad()) } else { Ok((ip, prefix)) }
}

fn network(source: &Source, dialect: Dialect) -> Result<hoist_network::Config, String> {
    let bridge = source.text("bridge")?.unwrap_or_else(|| match dialect {
        Dialect::Hoist => "hoist0".to_owned(),
        Dialect::Dockerd => "docker0".to_owned(),
    });
    if bridge == "none" {
        return Err("--bridge=none is not supported by this engine: use --network none per container".to_owned());
    }
    if bridge.is_empty() || bridge.len() > 15 || bridge.contains(['/', ' ']) {
        return Err(format!("invalid value \"{bridge}\" for --bridge: a device name has 1 to 15 characters"));
    }
    let pool = |text: &String| {
        let bad = || format!("invalid value \"{text}\" for --default-address-pool: base=CIDR,size=PREFIX is expected");
        let (mut base, mut size) = (None, None);
        for part in text.split(',') {
            match part.split_once('=').ok_or_else(bad)? {
                ("base", v) => base = Some(cidr(v, "default-address-pool")?),
                ("size", v) => size = v.parse::<u8>().ok(),
                _ => return Err(bad()),
            }
        }
        let ((ip, prefix), size) = (base.ok_or_else(bad)?, size.ok_or_else(bad)?);
        if size < prefix || size > 30 { Err(bad()) } else { Ok((ip, prefix, size)) }
    };
    Ok(hoist_network::Config {
        bridge,
        bip: source.text("bip")?.map(|t| cidr(&t, "bip")).transpose()?,
        fixed_cidr: source.text("fixed-cidr")?.map(|t| cidr(&t, "fixed-cidr")).transpose()?,
        default_address_pools: source.texts("default-address-pool")?.iter().map(pool).collect::<Result<_, _>>()?,
        mtu: source.text("mtu")?.map(|t| parse(&t, "mtu")).transpose()?.unwrap_or(0),
        icc: source.flag("icc")?,
        default_publish_ip: source.text("ip")?.map(|t| parse(&t, "ip")).transpose()?,
    })
}

fn addresses(source: &Source, flag: &str) -> Result<Vec<String>, String> {
    let list = source.texts(flag)?;
    for text in &list {
        text.parse::<IpAddr>().map_err(|_| format!("{text} is not an ip address (--{flag})"))?;
    }
    Ok(list)
}

fn ulimits(source: &Source) -> Result<BTreeMap<String, Ulimit>, String> {
    let mut ulimits = BTreeMap::new();
    if let Some(Value::Object(map)) = source.in_file("default-ulimit") {
        for (name, value) in map {
            let number = |key: &str| value.get(key).and_then(Value::as_i64);
            let (Some(soft), Some(hard)) = (number("Soft"), number("Hard")) else {
                return Err(format!("default-ulimits.{name}: Soft and Hard are expected"));
            };
            ulimits.insert(name.clone(), Ulimit { name: name.clone(), soft, hard });
        }
        return Ok(ulimits);
    }
    for text in source.texts("default-ulimit")? {
        let bad = || format!("invalid ulimit argument: {text}");
        let (name, limits) = text.split_once('=').ok_or_else(bad)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (soft.parse().map_err(|_| bad())?, hard.parse().map_err(|_| bad())?);
        ulimits.insert(name.to_owned(), Ulimit { name: name.to_owned(), soft, hard });
    }
    Ok(ulimits)
}

fn runtimes(source: &Source) -> Result<BTreeMap<String, RuntimeBinary>, String> {
    let mut runtimes = BTreeMap::new();
    let reserved = |name: &str| format!("runtime name '{name}' is reserved");
    if let Some(Value::Object(map)) = source.in_file("add-runtime") {
        for (name, value) in map {
            if matches!(name.as_str(), "runc" | "hoist") {
                return Err(reserved(name));
            }
            let path = value.get("path").and_then(Value::as_str);
            let path = path.ok_or_else(|| format!("runtimes.{name}: a path is expected"))?;
            let args = value.get("runtimeArgs").and_then(Value::as_array).into_iter().flatten();
            let args = args.filter_map(Value::as_str).map(str::to_owned).collect();
            runtimes.insert(name.clone(), RuntimeBinary { path: PathBuf::from(path), args });
        }
        return Ok(runtimes);
    }
    for text in source.texts("add-runtime")? {
        let (name, path) = text
            .split_once('=')
            .ok_or_else(|| format!("invalid runtime specification \"{text}\": name=/path is expected"))?;
        if matches!(name, "runc" | "hoist") {
            return Err(reserved(name));
        }
        runtimes.insert(name.to_owned(), RuntimeBinary { path: PathBuf::from(path), args: Vec::new() });
    }
    Ok(runtimes)
}

fn labels(source: &Source) -> Result<Vec<String>, String> {
    let labels = source.texts("label")?;
    match labels.iter().find(|l| !l.contains('=')) {
        Some(bad) => Err(format!("bad attribute format: {bad}")),
        None => Ok(labels),
    }
}

fn log(source: &Source) -> Result<LogConfig, String> {
    let r#type = source.text("log-driver")?.unwrap_or_else(|| "json-file".to_owned());
    if !matches!(r#type.as_str(), "json-file" | "local" | "none") {
        return Err(format!("logger: no log driver named '{type}' is registered"));
    }
    let config = source
        .texts("log-opt")?
        .iter()
        .map(|o| {
            o.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .ok_or_else(|| format!("invalid log option: {o}"))
        })
        .collect::<Result<_, _>>()?;
    Ok(LogConfig { r#type, config })
}

fn shm_size(source: &Source) -> Result<i64, String> {
    let Some(text) = source.text("default-shm-size")? else { return Ok(64 << 20) };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(format!("invalid size: '{text}'")),
    };
    let number: i64 = digits.parse().map_err(|_| format!("invalid size: '{text}'"))?;
    number.checked_mul(scale).filter(|&n| n > 0).ok_or_else(|| format!("invalid size: '{text}'"))
}

/// Refuses while another engine lives; a stale file is replaced.
pub(crate) fn write_pid_file(path: &Path) -> Result<(), String> {
    if let Ok(text) = std::fs::read_to_string(path)
        && let Ok(pid) = text.trim().parse::<u32>()
        && pid != std::process::id()
        && Path::new(&format!("/proc/{pid}")).exists()
    {
        return Err(format!("process with PID {pid} is still running (pid file {})", path.display()));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("create {}: {e}", parent.display()))?;
    }
    std::fs::write(path, std::process::id().to_string()).map_err(|e| format!("write {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_args(args: &[&str]) -> Result<Config, String> {
        let dialect = Dialect::of(&[OsString::from(args[0])]);
        read(args.iter().map(OsString::from).collect(), dialect).map_err(|stop| match stop {
            Stop::Bad(text) => text,
            Stop::Shown(_) => "usage".to_owned(),
        })
    }

    #[test]
    fn both_dialects_name_the_same_things() {
        let ours = read_args(&["engine", "--root", "/a", "--run-dir", "/b", "--config-file", "/dev/null"]).unwrap();
        let docker =
            read_args(&["dockerd", "--data-root", "/a", "--exec-root", "/b", "--config-file", "/dev/null"]).unwrap();
        assert_eq!(ours.settings.root, docker.settings.root);
        assert_eq!(ours.hosts, ["unix:///b/hoist.sock"]);
        assert_eq!(docker.hosts, ["unix:///var/run/docker.sock"]);
        assert!(ours.settings.live_restore && !docker.settings.live_restore);
    }

    #[test]
    fn wrong_values_are_named() {
        let text = |args: &[&str]| {
            let mut all = vec!["engine", "--config-file", "/dev/null"];
            all.extend(args);
            read_args(&all).unwrap_err()
        };
        assert!(text(&["--bip", "x"]).contains("--bip"));
        assert!(text(&["--default-runtime", "x"]).contains("'x' does not exist"));
        assert!(text(&["--iptables=false"]).contains("--iptables=false"));
        assert!(text(&["--dns", "nope"]).contains("nope is not an ip address"));
        assert_eq!(text(&["--no-such-flag"]), "usage");
    }

    #[test]
    fn a_setting_in_both_places_is_refused() {
        let path = std::env::temp_dir().join(format!("hoist-config-{}.json", std::process::id()));
        std::fs::write(&path, r#"{"dns":["1.1.1.1"],"mtu":1400}"#).unwrap();
        let file = path.to_str().unwrap();
        let config = read_args(&["engine", "--config-file", file]).unwrap();
        assert_eq!((config.settings.dns, config.settings.network.mtu), (vec!["1.1.1.1".to_owned()], 1400));
        assert!(read_args(&["engine", "--config-file", file, "--mtu", "1"]).unwrap_err().contains("both"));
        std::fs::write(&path, r#"{"nope":1}"#).unwrap();
        assert!(read_args(&["engine", "--config-file", file]).unwrap_err().contains("nope"));
        std::fs::remove_file(&path).unwrap();
    }
}
