//! Limits: sizes, CPUs, ulimits, restart policies, kernel parameters.

use serde_json::{Value, json};

use crate::{flags::check::quote, format::time};

pub(crate) fn check_bytes(text: &str) -> Result<(), String> {
    hoist_api::size::parse(text).map(drop)
}

pub(crate) fn check_swap(text: &str) -> Result<(), String> {
    swap(text).map(drop)
}

/// `--memory-swap`: a size, or -1 for no limit.
pub(crate) fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { hoist_api::size::parse(text) }
}

pub(crate) fn check_duration(text: &str) -> Result<(), String> {
    time::parse_go_duration(text).map(drop)
}

pub(crate) fn check_cpus(text: &str) -> Result<(), String> {
    nano_cpus(text).map(drop)
}

/// `--cpus 1.5` or `1/2`, in billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (numerator, denominator) = match text.split_once('/') {
        Some((left, right)) => (decimal(left).ok_or_else(bad)?, decimal(right).ok_or_else(bad)?),
        None => (decimal(text).ok_or_else(bad)?, (1, 0)),
    };
    // (a / 10^b) / (c / 10^d) billionths
    let scale = |power: u32| 10_i128.checked_pow(power).ok_or_else(bad);
    let over = numerator.0.checked_mul(scale(9 + denominator.1)?).ok_or_else(bad)?;
    let under = denominator.0.checked_mul(scale(numerator.1)?).filter(|number| *number != 0).ok_or_else(bad)?;
    if over % under != 0 {
        return Err("value is too precise".to_owned());
    }
    i64::try_from(over / under).map_err(|_| bad())
}

/// A decimal number as an integer and a power of ten to divide by.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let is_number = digits.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.trim_start_matches(['-', '+']).is_empty() || fraction.len() > 18 {
        return None;
    }
    Some((digits.parse().ok()?, u32::try_from(fraction.len()).ok()?))
}

const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(crate) fn check_ulimit(text: &str) -> Result<(), String> {
    ulimit(text).map(drop)
}

/// `name=soft[:hard]`
pub(crate) fn ulimit(text: &str) -> Result<Value, String> {
    let bad = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        let why = format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text));
        text.parse::<i64>().map_err(|_| why)
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    if hard.contains(':') {
        return Err(format!("too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"));
    }
    let (soft, hard) = (number(soft)?, number(hard)?);
    // -1 is no limit
    if hard != -1 && (soft == -1 || soft > hard) {
        let soft = if soft == -1 { "-1 (unlimited)".to_owned() } else { soft.to_string() };
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(json!({"Name": name, "Hard": hard, "Soft": soft}))
}

/// All ulimits given, the last of each name, sorted.
pub(crate) fn ulimits(specs: &[&str]) -> Result<Vec<Value>, String> {
    let mut found = std::collections::BTreeMap::new();
    for spec in specs {
        let value = ulimit(spec)?;
        found.insert(value["Name"].as_str().unwrap_or_default().to_owned(), value);
    }
    Ok(found.into_values().collect())
}

/// `no`, `always`, `on-failure:3`
pub(crate) fn restart_policy(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(json!({"Name": "", "MaximumRetryCount": 0}));
    }
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let count: i64 = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

pub(crate) fn check_sysctl(text: &str) -> Result<(), String> {
    const KERNEL: &[&str] = &["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let name = text.split_once('=').map_or("", |(name, _)| name);
    let is_kernel = name.strip_prefix("kernel.").is_some_and(|rest| KERNEL.contains(&rest));
    match is_kernel || name.starts_with("net.") || name.starts_with("fs.mqueue.") {
        true => Ok(()),
        false => Err(format!("sysctl '{text}' is not allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_exact() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus("1/4"), Ok(250_000_000));
        assert_eq!(nano_cpus("0.000000001"), Ok(1));
        assert_eq!(nano_cpus("0.0000000001").unwrap_err(), "value is too precise");
        assert_eq!(nano_cpus("x").unwrap_err(), "failed to parse x as a rational number");
        assert!(nano_cpus("1/0").is_err() && nano_cpus("").is_err());
    }

    #[test]
    fn ulimits_keep_soft_below_hard() {
        assert_eq!(ulimit("nofile=1:2").unwrap().to_string(), r#"{"Name":"nofile","Hard":2,"Soft":1}"#);
        assert!(ulimit("core=-1").is_ok());
        assert_eq!(ulimit("x").unwrap_err(), "invalid ulimit argument: x");
        assert_eq!(ulimit("x=1").unwrap_err(), "invalid ulimit type: x");
        assert!(ulimit("nofile=2:1").unwrap_err().contains("2 > 1"));
        assert_eq!(ulimits(&["nproc=1", "core=1", "nproc=2"]).unwrap().len(), 2);
    }

    #[test]
    fn restart_policies_take_a_count() {
        assert_eq!(
            restart_policy("on-failure:3").unwrap().to_string(),
            r#"{"Name":"on-failure","MaximumRetryCount":3}"#
        );
        assert!(restart_policy(":3").is_err() && restart_policy("always:x").is_err());
    }
}
