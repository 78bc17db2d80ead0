//! Where a setting comes from: the command line, else the configuration file, else its default. A setting given in both
//! places is refused, as dockerd does.

use std::path::PathBuf;

use clap::ArgMatches;
use serde_json::{Map, Value};

use super::flags::{Dialect, command};

/// Reads the configuration file; one that nobody named need not exist.
pub(super) fn read_file(matches: &ArgMatches, dialect: Dialect) -> Result<Map<String, Value>, String> {
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
const FILE_KEYS: [(&str, &str); 21] = [
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
    ("default-address-pools", "default-address-pool"),
    ("authorization-plugins", "authorization-plugin"),
    ("cdi-spec-dirs", "cdi-spec-dir"),
    ("default-network-opts", "default-network-opt"),
    ("exec-opts", "exec-opt"),
    ("features", "feature"),
    ("node-generic-resources", "node-generic-resource"),
    ("storage-opts", "storage-opt"),
    ("host-gateway-ips", "host-gateway-ip"),
];

pub(super) struct Source {
    pub(super) matches: ArgMatches,
    pub(super) file: Map<String, Value>,
}

impl Source {
    pub(super) fn on_line(&self, flag: &str) -> bool {
        self.matches.value_source(flag) == Some(clap::parser::ValueSource::CommandLine)
    }

    pub(super) fn in_file(&self, flag: &str) -> Option<&Value> {
        self.file.iter().find(|(key, _)| file_flag(key) == flag).map(|(_, value)| value)
    }

    pub(super) fn text(&self, flag: &str) -> Result<Option<String>, String> {
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

    pub(super) fn flag(&self, flag: &str) -> Result<bool, String> {
        if self.on_line(flag) {
            return Ok(self.matches.get_one::<bool>(flag).copied().unwrap_or_default());
        }
        match self.in_file(flag) {
            None => Ok(self.matches.get_one::<bool>(flag).copied().unwrap_or_default()),
            Some(Value::Bool(on)) => Ok(*on),
            Some(other) => Err(format!("configuration key {flag}: true or false is expected, not {other}")),
        }
    }

    /// What was said about a flag of any kind, on the line or in the file; nothing if nobody spoke of it.
    pub(super) fn given(&self, flag: &str) -> Result<Vec<String>, String> {
        if self.on_line(flag) {
            let raw = self.matches.get_raw(flag).into_iter().flatten();
            let values: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
            return Ok(if values.is_empty() { vec!["true".to_owned()] } else { values });
        }
        match self.in_file(flag) {
            None => Ok(Vec::new()),
            Some(Value::Bool(on)) => Ok(vec![on.to_string()]),
            Some(Value::Number(number)) => Ok(vec![number.to_string()]),
            Some(_) => self.texts(flag),
        }
    }

    pub(super) fn texts(&self, flag: &str) -> Result<Vec<String>, String> {
        if let Some(values) = self.matches.get_many::<String>(flag) {
            return Ok(values.cloned().collect());
        }
        match self.in_file(flag) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    // An address pool: as it stands behind the flag.
                    Value::Object(map) => Ok(pairs(map).join(",")),
                    _ => Err(format!("configuration key {flag}: a list of texts is expected")),
                })
                .collect(),
            Some(Value::Object(map)) => Ok(pairs(map)),
            Some(other) => Err(format!("configuration key {flag}: a list is expected, not {other}")),
        }
    }
}

fn pairs(map: &Map<String, Value>) -> Vec<String> {
    map.iter().map(|(k, v)| format!("{k}={}", v.as_str().map_or_else(|| v.to_string(), str::to_owned))).collect()
}

fn file_flag(key: &str) -> &str {
    FILE_KEYS.iter().find(|(file, _)| *file == key).map_or(key, |(_, flag)| flag)
}

/// Refuses keys that mean nothing or say again what a flag says.
pub(super) fn check_file_keys(source: &Source, dialect: Dialect) -> Result<(), String> {
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
