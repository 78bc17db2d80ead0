//! Percent-encoding of paths, queries and forms.

/// Appends `text`, escaping everything but what RFC 3986 calls unreserved and the bytes of `also`.
pub fn escape(out: &mut String, text: &str, also: &[u8]) {
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

/// The text as a form has it, and Go's `url.QueryEscape`: a space is a plus.
pub fn escape_form(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            out.push('+');
        }
        escape(&mut out, word, b"");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_have_pluses_for_spaces_and_escape_those() {
        assert_eq!(escape_form(" a+b  c/\u{fc}~"), "+a%2Bb++c%2F%C3%BC~");
        assert_eq!(escape_form(""), "");
    }

    #[test]
    fn more_bytes_may_be_left_as_they_are() {
        let mut out = "x".to_owned();
        escape(&mut out, "a/b c\u{7f}", b"/");
        assert_eq!(out, "xa/b%20c%7F");
    }
}
