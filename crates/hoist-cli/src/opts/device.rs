//! Devices: `--device`, `--device-cgroup-rule`, the block I/O flags and `--gpus`.

use serde_json::{Map, Value, json};

use super::{csv, key_value};

fn is_mode(text: &str) -> bool {
    let mut seen = String::new();
    for c in text.chars() {
        if !"rwm".contains(c) || seen.contains(c) {
            return false;
        }
        seen.push(c);
    }
    !seen.is_empty()
}

/// A device by its name in the Container Device Interface: `vendor/class=name`.
pub(crate) fn is_cdi_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
    };
    vendor.starts_with(|c: char| c.is_ascii_alphabetic()) && word(vendor) && word(class) && word(name)
}

/// `host[:container][:mode]` as the API takes it.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(format!("bad mode specified: {mode}")),
        [host, container, mode] => (*host, *container, *mode),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if host.is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": mode}))
}

/// `type major:minor mode`, as `c 1:3 mr` or `a *:* rwm`.
pub(crate) fn check_rule(text: &str) -> Result<(), String> {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let ok = match words.as_slice() {
        [kind @ ("a" | "b" | "c"), numbers, mode] => {
            let _ = kind;
            let fits = |mode: &str| (1..=3).contains(&mode.len()) && mode.chars().all(|c| "rwm".contains(c));
            numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor)) && fits(mode)
        }
        _ => false,
    };
    if ok { Ok(()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

fn split_device(text: &str) -> Result<(&str, &str), String> {
    let Some((path, value)) = text.split_once(':').filter(|(path, _)| !path.is_empty()) else {
        return Err(format!("bad format: {text}"));
    };
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

pub(crate) fn weight(text: &str) -> Result<Value, String> {
    let (path, value) = split_device(text)?;
    match value.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok(json!({"Path": path, "Weight": weight})),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

pub(crate) fn bytes_rate(text: &str) -> Result<Value, String> {
    let (path, value) = split_device(text)?;
    let rate = hoist_api::size::parse(value).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

pub(crate) fn io_rate(text: &str) -> Result<Value, String> {
    let (path, value) = split_device(text)?;
    let rate: u64 = value.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

pub(crate) fn check_weight(text: &str) -> Result<(), String> {
    weight(text).map(drop)
}

pub(crate) fn check_bytes_rate(text: &str) -> Result<(), String> {
    bytes_rate(text).map(drop)
}

pub(crate) fn check_io_rate(text: &str) -> Result<(), String> {
    io_rate(text).map(drop)
}

pub(crate) fn check_gpus(text: &str) -> Result<(), String> {
    gpus(text).map(drop)
}

/// `--gpus all`, `--gpus 2`, `--gpus '"device=0,1",capabilities=utility'` as a device request.
pub(crate) fn gpus(text: &str) -> Result<Value, String> {
    let mut request = Map::new();
    let mut seen: Vec<String> = Vec::new();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, value),
            None => ("count", field.as_str()),
        };
        if seen.iter().any(|known| known == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        match key {
            "driver" => drop(request.insert("Driver".to_owned(), value.into())),
            "count" => drop(request.insert("Count".to_owned(), gpu_count(value)?.into())),
            "device" => drop(request.insert("DeviceIDs".to_owned(), value.split(',').collect())),
            "capabilities" => {
                let list: Vec<&str> = value.split(',').chain(["gpu"]).collect();
                request.insert("Capabilities".to_owned(), json!([list]));
            }
            "options" => {
                let fields = csv::fields(value).map_err(|why| format!("failed to read gpu options: {why}"))?;
                let options = key_value::map(fields.iter().map(String::as_str));
                request.insert("Options".to_owned(), key_value::json_map(options));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !request.contains_key("Count") && !request.contains_key("DeviceIDs") {
        request.insert("Count".to_owned(), 1.into());
    }
    request.entry("Capabilities").or_insert_with(|| json!([["gpu"]]));
    request.entry("Options").or_insert_with(|| json!({}));
    Ok(Value::Object(request))
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    let why = |_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax");
    text.parse().map_err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_take_path_target_and_mode() {
        let shape = |text: &str| parse(text).map(|value| value.to_string());
        let device = |host: &str, inside: &str, mode: &str| {
            Ok(format!(
                "{{\"PathOnHost\":\"{host}\",\"PathInContainer\":\"{inside}\",\"CgroupPermissions\":\"{mode}\"}}"
            ))
        };
        assert_eq!(shape("/dev/a"), device("/dev/a", "/dev/a", "rwm"));
        assert_eq!(shape("/dev/a:r"), device("/dev/a", "/dev/a", "r"));
        assert_eq!(shape("/dev/a:/dev/b:rw"), device("/dev/a", "/dev/b", "rw"));
        assert_eq!(shape("/dev/a:/dev/b:x").unwrap_err(), "bad mode specified: x");
        assert_eq!(shape("a").unwrap_err(), "a is not an absolute path");
        assert_eq!(shape("a:b:c:d:e").unwrap_err(), "bad format for path: a:b:c:d:e");
        assert!(is_cdi_name("vendor.com/gpu=0") && !is_cdi_name("/dev/x=1"));
    }

    #[test]
    fn rules_and_rates_are_checked() {
        assert!(check_rule("c 1:3 mr").is_ok() && check_rule("a *:* rwm").is_ok());
        assert!(check_rule("d 1:3 mr").is_err() && check_rule("c 1:3 x").is_err() && check_rule("c 13 r").is_err());
        assert_eq!(bytes_rate("/dev/sda:1mb").unwrap().to_string(), r#"{"Path":"/dev/sda","Rate":1048576}"#);
        assert!(weight("/dev/sda:5").is_err() && io_rate("/dev/sda:x").is_err() && io_rate("sda:1").is_err());
    }

    #[test]
    fn gpu_requests_have_docker_s_defaults() {
        assert_eq!(gpus("all").unwrap().to_string(), r#"{"Count":-1,"Capabilities":[["gpu"]],"Options":{}}"#);
        assert!(gpus("x").is_err() && gpus("count=1,count=2").is_err());
    }
}
