//! Percent-encoding of paths and queries.

/// Appends `text`, escaping everything but what RFC 3986 calls unreserved and the bytes of `also`.
fn escape(out: &mut String, text: &str, also: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// One object name inside a path; slashes of image names stay as they are.
pub fn path_segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    escape(&mut out, name, b"/:@");
    out
}

/// `?a=b&c=d`, or nothing for no pairs.
pub(crate) fn encode(pairs: &[(&str, String)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        out.push(if out.is_empty() { '?' } else { '&' });
        escape(&mut out, key, b"");
        out.push('=');
        escape(&mut out, value, b"");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_escape_what_would_end_a_value() {
        assert_eq!(
            encode(&[("filters", "{\"a&b\":1}".into()), ("t", "5".into())]),
            "?filters=%7B%22a%26b%22%3A1%7D&t=5"
        );
        assert_eq!(encode(&[]), "");
        assert_eq!(path_segment("docker.io/a b:1@sha256:0?"), "docker.io/a%20b:1@sha256:0%3F");
    }
}
