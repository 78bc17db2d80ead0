//! Checks of flag values that need no other module, with the texts of Go's `strconv`, which users of Docker know.

/// Any text.
pub(crate) fn any(_: &str) -> Result<(), String> {
    Ok(())
}

pub(crate) fn boolean(value: &str) -> Result<(), String> {
    match parse_bool(value) {
        Some(_) => Ok(()),
        None => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(value))),
    }
}

pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

pub(crate) fn int(value: &str) -> Result<(), String> {
    parse_int(value).map(drop)
}

/// An integer as Go reads it with base 0: sign, `0x`, `0o`, `0b`, a leading zero for octal, `_` between digits.
pub(crate) fn parse_int(value: &str) -> Result<i64, String> {
    let (negative, digits) = match value.as_bytes().first() {
        Some(b'-') => (true, &value[1..]),
        Some(b'+') => (false, &value[1..]),
        _ => (false, value),
    };
    let magnitude = magnitude(digits).map_err(|why| format!("strconv.ParseInt: parsing {}: {why}", quote(value)))?;
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(signed).map_err(|_| format!("strconv.ParseInt: parsing {}: value out of range", quote(value)))
}

fn magnitude(digits: &str) -> Result<u64, &'static str> {
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(_) if lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if body.is_empty() || !body.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return Err("invalid syntax");
    }
    u64::from_str_radix(body, radix).map_err(|_| "value out of range")
}

pub(crate) fn uint(value: &str) -> Result<(), String> {
    unsigned(value, u64::MAX)
}

pub(crate) fn uint16(value: &str) -> Result<(), String> {
    unsigned(value, u64::from(u16::MAX))
}

fn unsigned(value: &str, max: u64) -> Result<(), String> {
    match magnitude(value) {
        Ok(number) if number <= max => Ok(()),
        Ok(_) => Err(format!("strconv.ParseUint: parsing {}: value out of range", quote(value))),
        Err(why) => Err(format!("strconv.ParseUint: parsing {}: {why}", quote(value))),
    }
}

/// Text in double quotes, with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            other => escape(&mut out, other),
        }
    }
    out.push('"');
    out
}

pub(crate) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    match c {
        '\'' => out.push_str("\\'"),
        other => escape(&mut out, other),
    }
    out.push('\'');
    out
}

fn escape(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{feff}' => {
            out.push_str(&if c as u32 > 0xffff {
                format!("\\U{:08x}", c as u32)
            } else {
                format!("\\u{:04x}", c as u32)
            });
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_go_reads_them() {
        for (text, number) in [("7", 7), ("-1", -1), ("0x10", 16), ("010", 8), ("0b11", 3), ("0", 0), ("+5", 5)] {
            assert_eq!(parse_int(text), Ok(number), "{text}");
        }
        assert_eq!(parse_int("x").unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert!(parse_int("").is_err() && parse_int("--1").is_err() && parse_int("9223372036854775808").is_err());
        assert!(parse_int("-9223372036854775808").is_ok());
        assert!(uint16("65536").unwrap_err().ends_with("value out of range"));
    }

    #[test]
    fn quoting_is_go_s() {
        assert_eq!(quote("a\"b\\c\n\u{1}é"), r#""a\"b\\c\n\x01é""#);
        assert_eq!(quote_char('\''), r"'\''");
    }
}
