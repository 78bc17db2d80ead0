//! Sizes as people type them, which both halves read: go-units' `RAMInBytes` and `FromHumanSize`.

/// Bytes, at least 0, of a size as typed: `512m`, `1.5GiB`, `64`; units are binary. Errors are in go-units' words.
pub fn parse(text: &str) -> Result<i64, String> {
    parse_with(text, 1024.0)
}

/// The same with decimal units, even where they are spelt as binary ones: `10k` and `10KiB` are 10,000 bytes. Docker reads
/// few sizes so, that of a log file among them.
pub fn parse_decimal(text: &str) -> Result<i64, String> {
    parse_with(text, 1000.0)
}

fn parse_with(text: &str, kilo: f64) -> Result<i64, String> {
    let Some(last) = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ') else {
        return Err(format!("invalid size: '{text}'"));
    };
    let (number, suffix) = match text.as_bytes()[last] {
        b' ' => (&text[..last], &text[last + 1..]),
        _ => text.split_at(last + 1),
    };
    let size: f64 = match number.parse() {
        Ok(size) if !number.is_empty() => size,
        _ => return Err(format!("strconv.ParseFloat: parsing {number:?}: invalid syntax")),
    };
    if size < 0.0 || !size.is_finite() {
        return Err(format!("invalid size: '{text}'"));
    }
    let bad_suffix = || format!("invalid suffix: '{suffix}'");
    let lower = suffix.to_ascii_lowercase();
    let (unit, tail) = match lower.chars().next() {
        None => return whole(size, text),
        Some(unit) => (unit, &lower[unit.len_utf8()..]),
    };
    if unit == 'b' {
        return if tail.is_empty() { whole(size, text) } else { Err(bad_suffix()) };
    }
    let power = "kmgtp".find(unit).filter(|_| matches!(tail, "" | "b" | "ib")).ok_or_else(bad_suffix)?;
    whole(size * kilo.powi(i32::try_from(power).unwrap_or_default() + 1), text)
}

/// Bytes without their fraction, if there can be so many.
fn whole(size: f64, text: &str) -> Result<i64, String> {
    // The first number that is too large, which a float can hold.
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if size < TOO_LARGE { Ok(size as i64) } else { Err(format!("invalid size: '{text}'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_sizes_are_binary_and_strict() {
        let cases = [("64", 64), ("512m", 512 << 20), ("1.5g", 3 << 29), ("1KiB", 1024), ("2 kb", 2048), ("7b", 7)];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for (text, bytes) in [("64", 64), ("10k", 10_000), ("10KiB", 10_000), ("1.5g", 1_500_000_000)] {
            assert_eq!(parse_decimal(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse("x").unwrap_err(), "invalid size: 'x'");
        assert_eq!(parse("1x").unwrap_err(), "invalid suffix: 'x'");
        assert_eq!(parse("-1").unwrap_err(), "invalid size: '-1'");
        for huge in ["9223372036854775808", "99999999999g", "8192p"] {
            assert_eq!(parse(huge), Err(format!("invalid size: '{huge}'")));
        }
        assert!(parse("").is_err() && parse("m").is_err() && parse("1kbb").is_err());
    }
}
