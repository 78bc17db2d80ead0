//! Paths and queries of requests.

use hoist_api::query::escape;

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
