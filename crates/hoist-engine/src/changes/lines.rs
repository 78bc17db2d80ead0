//! The instructions of a Dockerfile's text: comments and blank lines go, continued lines are joined, and the directive
//! `# escape=` says what continues a line and escapes a character.

use crate::error::{Error, Result};

/// What escapes where no directive says otherwise.
const ESCAPE: char = '\\';

/// A text's instructions, one a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Instructions {
    pub(super) escape: char,
    pub(super) lines: Vec<String>,
}

impl Instructions {
    pub(super) fn parse(text: &str) -> Result<Instructions> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let escape = escape(text)?;
        let (mut lines, mut begun) = (Vec::new(), None::<String>);
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let bare = line.trim_start();
            if bare.is_empty() || bare.starts_with('#') {
                continue;
            }
            // Blanks before an instruction say nothing; those of a line that goes on with one stay.
            let mut joined = match begun.take() {
                Some(begun) => begun + line,
                None => bare.to_owned(),
            };
            match continued(line, escape) {
                Some(kept) => {
                    joined.truncate(joined.len() - (line.len() - kept));
                    begun = Some(joined);
                }
                None => lines.push(joined),
            }
        }
        lines.extend(begun);
        let lines: Vec<String> =
            lines.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Err(Error::invalid("file with no instructions"));
        }
        Ok(Instructions { escape, lines })
    }
}

/// How many bytes of a line stay if the next one goes on with it: it ends with a single escape, whatever blanks are behind.
fn continued(line: &str, escape: char) -> Option<usize> {
    let kept = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept.len())
}

/// Directives are the comments of the form `# name=value` above everything else.
fn escape(text: &str) -> Result<char> {
    let mut found = None;
    for line in text.lines() {
        let Some((name, value)) = line.strip_prefix('#').and_then(|line| line.split_once('=')) else { break };
        let (name, value) = (name.trim(), value.trim());
        let is_word =
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_word || value.is_empty() {
            break;
        }
        if !name.eq_ignore_ascii_case("escape") {
            continue;
        }
        if found.is_some() {
            return Err(Error::invalid("only one escape parser directive can be used"));
        }
        found = match value {
            "\\" => Some('\\'),
            "`" => Some('`'),
            other => return Err(Error::invalid(format!("invalid escape token '{other}' does not match ` or \\"))),
        };
    }
    Ok(found.unwrap_or(ESCAPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        Instructions::parse(text).unwrap().lines
    }

    #[test]
    fn lines_are_joined_and_comments_go() {
        assert_eq!(lines("ENV Q=1\nLABEL z=1"), ["ENV Q=1", "LABEL z=1"]);
        assert_eq!(lines("# c\n\n   # indented\n  ENV A=1  \r\nLABEL x=1\r\n"), ["ENV A=1", "LABEL x=1"]);
        assert_eq!(lines("ENV Q=1 \\\n# between\n\n  R=2"), ["ENV Q=1   R=2"]);
        assert_eq!(lines("CMD echo \\ \t\n  hi \\\n there"), ["CMD echo   hi  there"]);
        assert_eq!(lines("CMD [\\\r\n\"a\"]"), ["CMD [\"a\"]"]);
        assert_eq!(lines("ENV Q=1 \\\n"), ["ENV Q=1"]);
        assert_eq!(lines("ENV Q=1 \\\\\nLABEL x=1"), ["ENV Q=1 \\\\", "LABEL x=1"]);
        assert_eq!(lines("\u{feff}ENV Q=1"), ["ENV Q=1"]);
        for nothing in ["", "\n \n", "# x", "# a=b\n", "\\", "\\\n \\\n"] {
            assert_eq!(Instructions::parse(nothing).unwrap_err().message, "file with no instructions", "{nothing:?}");
        }
    }

    #[test]
    fn a_directive_above_all_says_what_escapes() {
        let parsed = Instructions::parse("# syntax=x\n#Escape = `\nENV Q=1 `\n R=2\\\nUSER x").unwrap();
        assert_eq!(parsed, Instructions { escape: '`', lines: vec!["ENV Q=1  R=2\\".to_owned(), "USER x".to_owned()] });
        assert_eq!(Instructions::parse("# a comment\n# escape=`\nUSER x").unwrap().escape, '\\');
        assert_eq!(Instructions::parse("USER x\n# escape=`").unwrap().escape, '\\');
        let refused = Instructions::parse("# escape=x\nUSER x").unwrap_err();
        assert_eq!(refused.message, "invalid escape token 'x' does not match ` or \\");
        assert!(Instructions::parse("# escape=`\n# escape=`\nUSER x").is_err());
    }
}
