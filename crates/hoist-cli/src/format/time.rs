//! Times: how Docker prints them, and how users type them for `--since` and `--until`.

use jiff::{Timestamp, Zoned, civil, tz::TimeZone};

pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// `3 minutes ago`, from unix seconds.
pub(crate) fn ago(created: i64) -> String {
    format!("{} ago", super::units::human_duration(now().saturating_sub(created)))
}

fn local(seconds: i64) -> Option<Zoned> {
    Some(Timestamp::from_second(seconds).ok()?.to_zoned(TimeZone::system()))
}

/// Go's default form: `2026-11-22 11:03:08 +0000 UTC`.
pub(crate) fn go_string(seconds: i64) -> String {
    local(seconds).map(|time| time.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()).unwrap_or_default()
}

/// RFC 3339 in the local zone, without fractions: `2026-11-22T11:03:08Z`.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let text = local(seconds).map(|time| time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()).unwrap_or_default();
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{utc}Z"),
        None => text,
    }
}

/// RFC 3339 with nine digits of fraction in the local zone, as events are printed.
pub(crate) fn rfc3339_nano(nanoseconds: i128) -> String {
    let time = Timestamp::from_nanosecond(nanoseconds).map(|time| time.to_zoned(TimeZone::system()));
    let text = time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string()).unwrap_or_default();
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{utc}Z"),
        None => text,
    }
}

/// An RFC 3339 time as C's `asctime` has it; what is none stays as it is.
pub(crate) fn ansi_c(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => time.strftime("%a %b %e %H:%M:%S %Y").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// What a user typed as a point in time, as `seconds.nanoseconds` for the API: a duration back from now, a date
/// and time in one of the forms Docker knows, or unix seconds, which are passed on.
pub(crate) fn point_in_time(text: &str) -> Result<String, String> {
    // Zero is the beginning of time and not "zero seconds ago".
    if let (Ok(back), true) = (parse_go_duration(text), text != "0") {
        let then = Timestamp::now().as_nanosecond() - i128::from(back);
        return Ok(format!("{}.{:09}", then.div_euclid(1_000_000_000), then.rem_euclid(1_000_000_000)));
    }
    if !text.contains('-') {
        // unix seconds, perhaps with a fraction: the engine checks them
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        return match !whole.is_empty() && digits(whole) && digits(fraction) {
            true => Ok(text.to_owned()),
            false => Err(format!("failed to parse value as time or duration: {}", crate::flags::check::quote(text))),
        };
    }
    let parsed = parse_date(text);
    let time = parsed
        .ok_or_else(|| format!("failed to parse value as time or duration: {}", crate::flags::check::quote(text)))?;
    let nanoseconds = time.as_nanosecond();
    Ok(format!("{}.{:09}", nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000)))
}

fn parse_date(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let utc = text.ends_with('Z').then(|| text.trim_end_matches('Z'));
    let zone = if utc.is_some() { TimeZone::UTC } else { TimeZone::system() };
    let plain = utc.unwrap_or(text);
    let padded = match plain.split_once('T') {
        Some((_, time)) if time.len() == 2 => format!("{plain}:00:00"),
        Some(_) => plain.to_owned(),
        None => format!("{plain}T00:00:00"),
    };
    padded.parse::<civil::DateTime>().ok()?.to_zoned(zone).ok().map(|time| time.timestamp())
}

/// A duration as Go parses it (`1h30m`, `1.5s`, `300ms`), in nanoseconds.
pub(crate) fn parse_go_duration(text: &str) -> Result<i64, String> {
    let quoted = crate::flags::check::quote(text);
    let invalid = || format!("time: invalid duration {quoted}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" => return Err(format!("time: missing unit in duration {quoted}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => {
                let unit = crate::flags::check::quote(other);
                return Err(format!("time: unknown unit {unit} in duration {quoted}"));
            }
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    if total > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_go_parses_them() {
        assert_eq!(parse_go_duration("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_go_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_go_duration("-2ms"), Ok(-2_000_000));
        assert_eq!(parse_go_duration("0"), Ok(0));
        assert_eq!(parse_go_duration("5").unwrap_err(), "time: missing unit in duration \"5\"");
        assert_eq!(parse_go_duration("5x").unwrap_err(), "time: unknown unit \"x\" in duration \"5x\"");
        assert_eq!(parse_go_duration("").unwrap_err(), "time: invalid duration \"\"");
    }

    #[test]
    fn points_in_time_take_docker_s_forms() {
        assert_eq!(point_in_time("1136073845.5"), Ok("1136073845.5".to_owned()));
        assert_eq!(point_in_time("2013-01-02T13:23:37Z"), Ok("1357133017.000000000".to_owned()));
        assert_eq!(point_in_time("2013-01-02Z"), Ok("1357084800.000000000".to_owned()));
        assert_eq!(point_in_time("2013-01-02T13Z"), Ok("1357131600.000000000".to_owned()));
        assert!(point_in_time("yesterday").is_err() && point_in_time("20-99-99").is_err());
    }
}
