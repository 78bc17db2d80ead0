//! Times as Go writes them: RFC 3339 in UTC with trailing zeros trimmed; civil-date arithmetic after Howard Hinnant's
//! `chrono`-compatible algorithms (days_from_civil, civil_from_days).

/// Go's zero time.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// RFC3339Nano of nanoseconds since the epoch; 0 is Go's zero time.
pub fn rfc3339_nano(ns: i64) -> String {
    if ns == 0 {
        return ZERO.to_owned();
    }
    let text = rfc3339_fixed(ns);
    let Some((seconds, fraction)) = text.trim_end_matches('Z').split_once('.') else { return text };
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{seconds}Z") } else { format!("{seconds}.{fraction}Z") }
}

/// RFC 3339 with all nine digits, the form of `docker logs -t`.
pub fn rfc3339_fixed(ns: i64) -> String {
    let (seconds, fraction) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Nanoseconds since the epoch of an RFC 3339 time with `Z` or an offset; `None` if it is not one.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !separators.iter().all(|&(at, b)| bytes[at] == b) || !matches!(bytes[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut nanos = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let kept = &after[..digits.min(9)];
        nanos = kept.parse::<i64>().ok()? * 10_i64.pow(9 - u32::try_from(kept.len()).ok()?);
        rest = &after[digits..];
    }
    let offset_seconds = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if rest.len() == 6 && rest.as_bytes()[3] == b':' => {
            let value = rest[1..3].parse::<i64>().ok()? * 3600 + rest[4..6].parse::<i64>().ok()? * 60;
            if *sign == b'-' { -value } else { value }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_seconds;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// `sec[.nanos]`, the form of `since` and `until` in queries, in nanoseconds.
pub fn parse_unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").get(..9)?.parse::<i64>().ok()?;
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// A Go duration (`1h30m`, `10s`, `1.5h`, `300ms`) in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("h", 3.6e12), ("m", 6e10), ("s", 1e9)];
        let (unit, scale) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += value * scale;
        rest = &after[unit.len()..];
    }
    if total >= 9.2e18 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    let ns = total as i64;
    Some(if negative { -ns } else { ns })
}

/// Nanoseconds since the epoch, now.
pub fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// go-units `HumanDuration`: "Less than a second", "About a minute", "3 weeks".
pub fn human_duration(ns: i64) -> String {
    let seconds = ns / 1_000_000_000;
    let plural = |n: i64, unit: &str| format!("{n} {unit}");
    let (minutes, hours) = (seconds / 60, ns.saturating_add(1_800_000_000_000) / 3_600_000_000_000);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => plural(seconds, "seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => plural(minutes, "minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => plural(hours, "hours"),
        () if hours < 24 * 7 * 2 => plural(hours / 24, "days"),
        () if hours < 24 * 30 * 2 => plural(hours / 24 / 7, "weeks"),
        () if hours < 24 * 365 * 2 => plural(hours / 24 / 30, "months"),
        () => plural(hours / 24 / 365, "years"),
    }
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * month_index + 2) / 5 + 1)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_write_as_go_does() {
        assert_eq!(rfc3339_nano(1_795_309_915_044_218_839), "2026-11-22T01:11:55.044218839Z");
        assert_eq!(rfc3339_nano(1_795_309_915_500_000_000), "2026-11-22T01:11:55.5Z");
        assert_eq!(rfc3339_nano(1_000_000_000), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339_nano(0), ZERO);
        for text in ["2026-11-22T01:11:55.044218839Z", "1969-12-31T23:59:59.9Z", "2000-02-29T00:00:00Z"] {
            assert_eq!(rfc3339_nano(parse_rfc3339(text).unwrap()), text);
        }
        assert_eq!(parse_rfc3339("2026-11-22T03:11:55+02:00"), parse_rfc3339("2026-11-22T01:11:55Z"));
        assert_eq!(parse_rfc3339("2026-11-22"), None);
    }

    #[test]
    fn durations_read_as_go_does() {
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(parse_duration("1.5s"), Some(1_500_000_000));
        assert_eq!(parse_duration("10"), None);
        assert_eq!(parse_unix("12.5"), Some(12_500_000_000));
        assert_eq!(parse_unix("12.-5"), None);
        assert_eq!(human_duration(59_000_000_000), "59 seconds");
        assert_eq!(human_duration(100_000_000_000), "About a minute");
        assert_eq!(human_duration(86_400_000_000_000 * 3), "3 days");
    }
}
