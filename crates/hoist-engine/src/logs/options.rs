//! `--log-driver` and `--log-opt`: which there are (checked when a container is created), and what their values mean
//! (checked when it is started, as dockerd does).

use std::path::Path;

use hoist_api::host_config::LogConfig;
use hoist_runtime::launch::{Log, LogFile};

use crate::container::record::Record;
use crate::error::{Error, Result};
use crate::logs::attributes;

/// Unlike Docker's json-file, ours is bounded unless it is told not to be.
const DEFAULT_MAX_SIZE_BYTES: u64 = 20 * 1024 * 1024;
const DEFAULT_MAX_FILES: u32 = 5;

const NON_BLOCKING: &str = "non-blocking";
/// Options of the cache that dockerd keeps beside drivers whose logs cannot be read. Both of ours can be, so they say
/// nothing; of their values, dockerd looks at that of the first alone.
const CACHE: &[&str] = &["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
/// Options of a driver; those about the mode are every driver's.
const JSON_FILE: &[&str] = &["max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
const LOCAL: &[&str] = &["max-size", "max-file", "compress"];

/// Refuses drivers and options that there are not.
pub fn check(log: &LogConfig) -> Result<()> {
    let (known, what) = match log.r#type.as_str() {
        "json-file" => (JSON_FILE, "json-file log driver"),
        "local" => (LOCAL, "log driver local"),
        "none" => return Ok(()),
        other => {
            return Err(Error::invalid(format!("error looking up logging plugin {other}: plugin {other:?} not found")));
        }
    };
    buffer_bytes(log)?;
    if let Some(text) = log.config.get(CACHE[0]).filter(|text| !text.is_empty() && parse_bool(text).is_none()) {
        return Err(Error::invalid(format!("invalid value for option {}: {text}", CACHE[0])));
    }
    let unknown = |key: &&String| {
        let key = key.as_str();
        !known.contains(&key) && !CACHE.contains(&key) && !matches!(key, "mode" | "max-buffer-size")
    };
    match log.config.keys().find(unknown) {
        Some(key) => Err(Error::invalid(format!("unknown log opt '{key}' for {what}"))),
        None => Ok(()),
    }
}

/// The size of the buffer of `mode=non-blocking`; 0 is the default size.
fn buffer_bytes(log: &LogConfig) -> Result<Option<u64>> {
    let mode = log.config.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | NON_BLOCKING) {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    let Some(text) = log.config.get("max-buffer-size") else { return Ok((mode == NON_BLOCKING).then_some(0)) };
    if mode != NON_BLOCKING {
        return Err(Error::invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"));
    }
    match hoist_api::size::parse(text).and_then(|size| unsigned(text, size)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) => Err(Error::invalid(format!("error parsing option max-buffer-size: {why}"))),
    }
}

/// What the supervisor is to write, and where.
pub(crate) fn log_file(record: &Record, directory: &Path) -> Result<Log> {
    let Some(path) = crate::logs::path(record, directory) else { return Ok(Log::None) };
    let log = &record.fixed.host_config.log_config;
    let failed = |why: String| {
        Error::internal(format!("failed to create task for container: failed to initialize logging driver: {why}"))
    };
    let (max_size_bytes, max_files, compress) = rotation(log).map_err(failed)?;
    let attrs = match log.r#type.as_str() {
        "local" => String::new(),
        _ => attributes::render(record).map_err(failed)?,
    };
    let buffer_bytes = buffer_bytes(log)?;
    Ok(Log::File(LogFile { path, max_size_bytes, max_files, attrs, compress, buffer_bytes }))
}

/// `max-size`, `max-file` and `compress`.
fn rotation(log: &LogConfig) -> std::result::Result<(u64, u32, bool), String> {
    let local = log.r#type == "local";
    let max_size_bytes = match log.config.get("max-size") {
        None => DEFAULT_MAX_SIZE_BYTES,
        Some(text) => {
            let named = if local { format!("invalid value for max-size: {text}: ") } else { String::new() };
            let size = hoist_api::size::parse_decimal(text)
                .and_then(|size| unsigned(text, size))
                .map_err(|why| format!("{named}{why}"))?;
            if size == 0 && !local {
                return Err("max-size must be a positive number".to_owned());
            }
            size
        }
    };
    let max_files = match log.config.get("max-file") {
        None => DEFAULT_MAX_FILES,
        Some(text) => {
            let number: i64 = text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?;
            if number < 1 && !local {
                return Err("max-file cannot be less than 1".to_owned());
            }
            u32::try_from(number.max(1)).map_err(|_| format!("max-file {number} is too large"))?
        }
    };
    let compress = match log.config.get("compress") {
        None => local,
        Some(text) => parse_bool(text).ok_or_else(|| {
            let named = if local { "error reading compress log option: " } else { "" };
            format!("{named}strconv.ParseBool: parsing {text:?}: invalid syntax")
        })?,
    };
    match (compress, local) {
        (true, true) if max_files == 1 => Err("compression cannot be enabled when max file count is 1".to_owned()),
        (true, false) if max_files == 1 || max_size_bytes == 0 => {
            Err("compress cannot be true when max-file is less than 2 or max-size is not set".to_owned())
        }
        _ => Ok((max_size_bytes, max_files, compress)),
    }
}

/// Go's strconv.ParseBool.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str, size: i64) -> std::result::Result<u64, String> {
    u64::try_from(size).map_err(|_| format!("invalid size: '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(driver: &str, pairs: &[(&str, &str)]) -> LogConfig {
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        LogConfig { r#type: driver.to_owned(), config }
    }

    #[test]
    fn rotation_options_are_read_as_dockers() {
        let json = |pairs: &[(&str, &str)]| rotation(&config("json-file", pairs));
        assert_eq!(json(&[]), Ok((DEFAULT_MAX_SIZE_BYTES, DEFAULT_MAX_FILES, false)));
        assert_eq!(json(&[("max-size", "10k"), ("max-file", "3"), ("compress", "true")]), Ok((10_000, 3, true)));
        assert_eq!(json(&[("max-size", "-1")]), Err("invalid size: '-1'".to_owned()));
        for bad in [("max-size", "x"), ("max-size", "0"), ("max-file", "0"), ("max-file", "a"), ("compress", "x")] {
            assert!(json(&[bad]).is_err(), "{bad:?}");
        }
        assert!(json(&[("compress", "true"), ("max-file", "1")]).unwrap_err().starts_with("compress cannot be true"));
        assert_eq!(rotation(&config("local", &[])), Ok((DEFAULT_MAX_SIZE_BYTES, DEFAULT_MAX_FILES, true)));
        assert!(rotation(&config("local", &[("max-file", "1")])).is_err());
    }

    #[test]
    fn drivers_and_options_are_refused_in_dockers_words() {
        let text = |driver: &str, pairs: &[(&str, &str)]| check(&config(driver, pairs)).unwrap_err().message;
        assert_eq!(text("syslog", &[]), "error looking up logging plugin syslog: plugin \"syslog\" not found");
        assert_eq!(text("json-file", &[("x", "y")]), "unknown log opt 'x' for json-file log driver");
        assert_eq!(text("local", &[("tag", "y")]), "unknown log opt 'tag' for log driver local");
        assert_eq!(text("local", &[("mode", "y")]), "logger: logging mode not supported: y");
        assert!(text("local", &[("max-buffer-size", "1m")]).contains("only supported with 'mode=non-blocking'"));
        assert!(text("local", &[("mode", "non-blocking"), ("max-buffer-size", "x")]).ends_with("invalid size: 'x'"));
        assert_eq!(text("local", &[("cache-disabled", "x")]), "invalid value for option cache-disabled: x");
        assert_eq!(text("json-file", &[("cache-foo", "1")]), "unknown log opt 'cache-foo' for json-file log driver");
        check(&config("none", &[])).unwrap();
        let cache = [("cache-disabled", ""), ("cache-max-size", "x"), ("cache-max-file", "0"), ("cache-compress", "x")];
        check(&config("json-file", &cache)).unwrap();
        check(&config("local", &[("cache-disabled", "true")])).unwrap();
        check(&config("json-file", &[("mode", "non-blocking"), ("max-buffer-size", "1m")])).unwrap();
    }
}
