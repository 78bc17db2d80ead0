//! Shortening of names and identifiers, and the width of text on a screen.

/// The twelve digits by which people know an object.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// At most `width` columns, the last of them an ellipsis if something was left out.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.is_ascii() {
        return match text.len() {
            length if length <= width => text.to_owned(),
            _ => format!("{}…", &text[..width.saturating_sub(1)]),
        };
    }
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_width(c);
        if used > width.saturating_sub(1) {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

pub(crate) fn display_width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Two columns for the East Asian wide and full-width blocks (Unicode annex 11), else one.
fn char_width(c: char) -> usize {
    match c as u32 {
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_ends_in_an_ellipsis_inside_its_width() {
        assert_eq!(ellipsis("short", 20), "short");
        assert_eq!(ellipsis("sh -c 'while true; do", 20), "sh -c 'while true; …");
        assert_eq!(ellipsis("日本語テキスト", 7), "日本語…");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }
}
