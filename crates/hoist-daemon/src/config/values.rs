//! The settings that are more than a text or a switch.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use hoist_api::host_config::{LogConfig, Ulimit};
use hoist_api::size;
use hoist_engine::{MaxDisk, OWN_RUNTIMES, RuntimeBinary, find_program};
use serde_json::Value;

use super::flags::Dialect;
use super::source::Source;

pub(super) fn parse<T: std::str::FromStr>(text: &str, flag: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("invalid value \"{text}\" for --{flag}"))
}

fn cidr(text: &str, flag: &str) -> Result<(Ipv4Addr, u8), String> {
    let bad = || format!("invalid value \"{text}\" for --{flag}: an IPv4 CIDR such as 10.9.0.1/24 is expected");
    let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
    let (ip, prefix) = (ip.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?);
    if prefix > 32 { Err(bad()) } else { Ok((ip, prefix)) }
}

pub(super) fn network(source: &Source, dialect: Dialect) -> Result<hoist_network::Config, String> {
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
        without_proxy: !source.flag("userland-proxy")?,
    })
}

pub(super) fn addresses(source: &Source, flag: &str) -> Result<Vec<String>, String> {
    let list = source.texts(flag)?;
    for text in &list {
        text.parse::<IpAddr>().map_err(|_| format!("{text} is not an ip address (--{flag})"))?;
    }
    Ok(list)
}

pub(super) fn ulimits(source: &Source) -> Result<BTreeMap<String, Ulimit>, String> {
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

pub(super) fn runtimes(source: &Source) -> Result<BTreeMap<String, RuntimeBinary>, String> {
    let mut runtimes = BTreeMap::new();
    if let Some(Value::Object(map)) = source.in_file("add-runtime") {
        for (name, value) in map {
            let path = value.get("path").and_then(Value::as_str);
            let path = runtime_path(name, path.unwrap_or_default())?;
            let args = value.get("runtimeArgs").and_then(Value::as_array).into_iter().flatten();
            let args = args.filter_map(Value::as_str).map(str::to_owned).collect();
            runtimes.insert(name.clone(), RuntimeBinary { path, args });
        }
        return Ok(runtimes);
    }
    for text in source.texts("add-runtime")? {
        let (name, path) = text
            .split_once('=')
            .filter(|(name, path)| !name.is_empty() && !path.is_empty())
            .ok_or_else(|| format!("invalid runtime specification \"{text}\": name=/path is expected"))?;
        runtimes.insert(name.to_owned(), RuntimeBinary { path: runtime_path(name, path)?, args: Vec::new() });
    }
    Ok(runtimes)
}

/// Where the program of a runtime is. One without a directory is looked for in `$PATH` now; it may come later, so that not
/// finding it is no error before it is needed.
fn runtime_path(name: &str, path: &str) -> Result<PathBuf, String> {
    if OWN_RUNTIMES.contains(&name) {
        return Err(format!("runtime name '{name}' is reserved"));
    }
    let given = Path::new(path);
    if path.is_empty() {
        return Err(format!("runtimes.{name}: a path is expected"));
    }
    if path.contains('/') && !given.is_absolute() {
        return Err(format!("runtimes.{name}: the path must be absolute, \"{path}\" is not"));
    }
    Ok(find_program(given).unwrap_or_else(|| given.to_owned()))
}

/// Mirrors of Docker Hub: plain addresses, as dockerd demands them.
pub(super) fn mirrors(source: &Source) -> Result<Vec<String>, String> {
    let mirrors = source.texts("registry-mirror")?;
    mirrors.iter().try_for_each(|text| check_mirror(text).map_err(|why| format!("invalid mirror: {why}")))?;
    Ok(mirrors)
}

fn check_mirror(text: &str) -> Result<(), String> {
    const SCHEMES: &str = "must use either 'https://' or 'http://'";
    if text.contains(char::is_whitespace) || text.contains(char::is_control) {
        return Err(format!("{text:?} is not a valid URI"));
    }
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()) else {
        return Err(format!("no scheme specified for {text:?}: {SCHEMES}"));
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(format!("unsupported scheme {scheme:?} in {text:?}: {SCHEMES}"));
    }
    if let Some((user, host)) = rest.split('/').next().and_then(|authority| authority.rsplit_once('@')) {
        // Nobody reads the password in a log.
        let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:xxxxx"));
        let masked = format!("{scheme}://{user}@{host}");
        return Err(format!("username/password not allowed in URI {masked:?}"));
    }
    if rest.contains(['?', '#']) {
        return Err(format!("query or fragment at end of the URI {text:?}"));
    }
    Ok(())
}

/// Names and networks of registries without verified TLS.
pub(super) fn insecure_registries(source: &Source) -> Result<Vec<String>, String> {
    let names = source.texts("insecure-registry")?;
    match names.iter().find(|name| name.starts_with('-') || name.ends_with('-')) {
        Some(bad) => Err(format!("invalid index name ({bad}). Cannot begin or end with a hyphen")),
        None => Ok(names),
    }
}

pub(super) fn labels(source: &Source) -> Result<Vec<String>, String> {
    let labels = source.texts("label")?;
    match labels.iter().find(|l| !l.contains('=')) {
        Some(bad) => Err(format!("bad attribute format: {bad}")),
        None => Ok(labels),
    }
}

pub(super) fn log(source: &Source) -> Result<LogConfig, String> {
    let r#type = source.text("log-driver")?.unwrap_or_else(|| "json-file".to_owned());
    let config = source
        .texts("log-opt")?
        .iter()
        .map(|o| {
            o.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .ok_or_else(|| format!("invalid log option: {o}"))
        })
        .collect::<Result<_, _>>()?;
    let config = LogConfig { r#type, config };
    hoist_engine::check_log_config(&config).map_err(|e| format!("failed to set log opts: {}", e.message))?;
    Ok(config)
}

pub(super) fn shm_size(source: &Source) -> Result<i64, String> {
    let Some(text) = source.text("default-shm-size")? else { return Ok(64 << 20) };
    size::parse(&text).ok().filter(|&bytes| bytes > 0).ok_or_else(|| format!("invalid size: '{text}'"))
}

/// Bytes, or per cent of the file system; zero is no limit.
pub(super) fn max_disk(source: &Source) -> Result<Option<MaxDisk>, String> {
    let Some(text) = source.text("max-disk")? else { return Ok(None) };
    let bad = || format!("invalid value \"{text}\" for --max-disk: a size such as 20G, or 1% to 100%, is expected");
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse::<u8>().ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(bad)?;
        return Ok(Some(MaxDisk::Percent(percent)));
    }
    let bytes = size::parse(&text).ok().and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(bad)?;
    Ok((bytes > 0).then_some(MaxDisk::Bytes(bytes)))
}
