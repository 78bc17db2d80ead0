//! Wall-clock time as Docker writes it, without allocation.

use rustix::time::ClockId;

const NANOS: i64 = 1_000_000_000;

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    now.tv_sec * NANOS + now.tv_nsec
}

/// Appends Go's RFC3339Nano in UTC: trailing zeros of the fraction are left out, a fraction of zero too.
pub(crate) fn push_rfc3339_nano(out: &mut Vec<u8>, time_ns: i64) {
    let (seconds, nanos) = (time_ns.div_euclid(NANOS), time_ns.rem_euclid(NANOS));
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    push_digits(out, year, 4);
    for (separator, value) in
        [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(separator);
        push_digits(out, value, 2);
    }
    if nanos != 0 {
        out.push(b'.');
        push_digits(out, nanos, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

fn push_digits(out: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10i64.pow(place) % 10) as u8);
    }
}

/// The proleptic Gregorian date of a day number (0 is 1970-01-01), counted in eras of 400 years from 0000-03-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(time_ns: i64) -> String {
        let mut out = Vec::new();
        push_rfc3339_nano(&mut out, time_ns);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_read_as_those_of_go() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_400 * NANOS + 120_000_000), "2000-02-29T00:00:00.12Z");
        assert_eq!(text(1_709_251_199 * NANOS + 1), "2024-02-29T23:59:59.000000001Z");
        assert_eq!(text(4_102_444_800 * NANOS), "2100-01-01T00:00:00Z");
    }
}
