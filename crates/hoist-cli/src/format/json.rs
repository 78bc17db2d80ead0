//! JSON for output: indented from the engine's own text, and encoded as Go encodes it.

use serde_json::Value;

/// Re-indents JSON text without touching its tokens, so that numbers and escapes stay as the engine wrote them.
/// `text` must be valid JSON.
pub(crate) fn indent(text: &str, unit: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut bytes = text.char_indices().peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(unit);
        }
    };
    while let Some((at, c)) = bytes.next() {
        match c {
            '"' => {
                let mut escaped = false;
                let mut end = text.len();
                for (inner, c) in bytes.by_ref() {
                    match c {
                        _ if escaped => escaped = false,
                        '\\' => escaped = true,
                        '"' => {
                            end = inner + 1;
                            break;
                        }
                        _ => {}
                    }
                }
                out.push_str(&text[at..end]);
            }
            '{' | '[' => {
                out.push(c);
                while bytes.peek().is_some_and(|(_, c)| c.is_ascii_whitespace()) {
                    bytes.next();
                }
                if bytes.peek().is_some_and(|(_, next)| matches!(next, '}' | ']')) {
                    out.extend(bytes.next().map(|(_, c)| c));
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// Takes the blank space between tokens away. `text` must be valid JSON.
pub(crate) fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_text, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            c if !in_text && c.is_ascii_whitespace() => continue,
            _ => {}
        }
        out.push(c);
    }
    out
}

/// One line of JSON. Go escapes U+2028 and U+2029, which JavaScript once read as line ends.
pub(crate) fn encode(value: &Value) -> String {
    let text = value.to_string();
    match text.contains(['\u{2028}', '\u{2029}']) {
        true => text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"),
        false => text,
    }
}

/// Escapes the characters HTML gives a meaning, as Go does by default.
pub(crate) fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting_keeps_every_token() {
        let text = r#"[{"a":1.50e3,"b":"x\"\u003c:,{","c":[],"d":{ },"e":[1,2]}]"#;
        let indented = "[\n  {\n    \"a\": 1.50e3,\n    \"b\": \"x\\\"\\u003c:,{\",\n    \"c\": [],\n    \"d\": {},\n    \"e\": [\n      1,\n      2\n    ]\n  }\n]";
        assert_eq!(indent(text, "  "), indented);
        assert_eq!(compact(indented), text.replace("{ }", "{}"));
    }
}
