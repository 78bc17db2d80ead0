//! Container logs: options, where they are, what goes into their entries. The supervisor writes them, [`reader`] reads.

pub(crate) mod reader;
mod tail;

use std::path::{Path, PathBuf};

use hoist_api::host_config::LogConfig;

use crate::container::record::Record;
use crate::error::{Error, Result};

/// Rotation of one container's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub max_size_bytes: u64,
    pub max_files: u32,
}

/// Unlike Docker's json-file, ours is bounded unless it is told not to be.
const DEFAULT_LIMITS: Limits = Limits { max_size_bytes: 20 * 1024 * 1024, max_files: 5 };

/// Reads `max-size` and `max-file`.
pub(crate) fn limits(config: &LogConfig) -> Result<Limits> {
    let mut limits = DEFAULT_LIMITS;
    if let Some(text) = config.config.get("max-size") {
        limits.max_size_bytes = if text == "-1" {
            u64::MAX
        } else {
            parse_size(text).filter(|&n| n > 0).ok_or_else(|| Error::invalid(format!("invalid size: '{text}'")))?
        };
    }
    if let Some(text) = config.config.get("max-file") {
        limits.max_files =
            text.parse().map_err(|_| Error::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax")))?;
        if limits.max_files < 1 {
            return Err(Error::invalid("max-file cannot be less than 1"));
        }
    }
    Ok(limits)
}

/// go-units `RAMInBytes`: `10m`, `1.5gb`, `100`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale: u64 = match text[number.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.trim().parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let (whole, fraction) = number.split_once('.')?;
    let tenths: u64 = fraction.get(..1)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(scale / 10 * tenths)
}

/// The log file; `None` for the driver `none`.
pub(crate) fn path(record: &Record, directory: &Path) -> Option<PathBuf> {
    match record.fixed.host_config.log_config.r#type.as_str() {
        "none" => None,
        "local" => Some(directory.join("local.log")),
        _ => Some(directory.join(format!("{}-json.log", record.id()))),
    }
}

/// The `attrs` of each entry: labels and variables named by the log options, as a JSON object; empty if there are none.
pub(crate) fn attributes(record: &Record) -> String {
    let options = &record.fixed.host_config.log_config.config;
    let wanted =
        |key: &str| options.get(key).map(|v| v.split(',').map(str::trim).collect::<Vec<_>>()).unwrap_or_default();
    let mut found = serde_json::Map::new();
    for label in wanted("labels") {
        if let Some(value) = record.fixed.config.labels.get(label) {
            found.insert(label.to_owned(), value.clone().into());
        }
    }
    for name in wanted("env") {
        let value = record.fixed.config.env.iter().flatten().find_map(|v| v.strip_prefix(name)?.strip_prefix('='));
        if let Some(value) = value {
            found.insert(name.to_owned(), value.into());
        }
    }
    if found.is_empty() { String::new() } else { serde_json::Value::Object(found).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_options_are_read_as_dockers() {
        let config = |pairs: &[(&str, &str)]| LogConfig {
            r#type: "json-file".into(),
            config: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        assert_eq!(limits(&config(&[])).unwrap(), DEFAULT_LIMITS);
        let set = limits(&config(&[("max-size", "10k"), ("max-file", "3")])).unwrap();
        assert_eq!(set, Limits { max_size_bytes: 10 * 1024, max_files: 3 });
        for bad in [("max-size", "x"), ("max-size", "0"), ("max-file", "0"), ("max-file", "a")] {
            assert!(limits(&config(&[bad])).is_err(), "{bad:?}");
        }
        assert_eq!(parse_size("1.5gb"), Some((1 << 30) + (1 << 30) / 10 * 5));
    }
}
