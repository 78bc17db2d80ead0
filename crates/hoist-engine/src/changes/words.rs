//! The words of a Dockerfile's line: where they end, and what quotes, escapes and variables make of them.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::{Error, Result};

/// By what words are read.
#[derive(Debug)]
pub(super) struct Words {
    /// The variables, as `name=value`.
    pub(super) env: Vec<String>,
    /// What takes the meaning from the character behind it.
    pub(super) escape: char,
}

impl Words {
    /// Words between blank space that is neither quoted nor escaped; quotes stay for [`Words::expand`].
    pub(super) fn split(&self, line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match (c, quote) {
                (c, None | Some('"')) if c == self.escape => {
                    word.push(c);
                    word.extend(chars.next());
                    continue;
                }
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, None) if c.is_whitespace() => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                    continue;
                }
                _ => {}
            }
            word.push(c);
        }
        if !word.is_empty() {
            words.push(word);
        }
        words
    }

    /// Takes quotes and escapes away and puts variables in.
    pub(super) fn expand(&self, text: &str) -> Result<String> {
        let (mut out, mut quote) = (String::new(), None);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, quote) {
                (c, None) if c == self.escape => out.extend(chars.next()),
                (c, Some('"')) if c == self.escape => match chars.peek() {
                    Some(&next) if matches!(next, '"' | '$') || next == self.escape => out.extend(chars.next()),
                    _ => out.push(c),
                },
                ('$', None | Some('"')) => out.push_str(&self.variable(&mut chars)?),
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => out.push(c),
            }
        }
        match quote {
            None => Ok(out),
            Some('"') => Err(Error::invalid("unexpected end of statement while looking for matching double-quote")),
            Some(_) => Err(Error::invalid("unexpected end of statement while looking for matching single-quote")),
        }
    }

    /// What stands behind `$`.
    fn variable(&self, chars: &mut Peekable<Chars<'_>>) -> Result<String> {
        let lookup =
            |name: &str| self.env.iter().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name));
        let value = |name: &str| lookup(name).map(|(_, value)| value.to_owned()).unwrap_or_default();
        if chars.next_if_eq(&'{').is_none() {
            let name = name_of(chars);
            return Ok(if name.is_empty() { "$".to_owned() } else { value(&name) });
        }
        let name = name_of(chars);
        let mut rest = String::new();
        loop {
            match chars.next() {
                Some('}') => break,
                Some(c) => rest.push(c),
                None => return Err(Error::invalid("syntax error: missing '}'")),
            }
        }
        if name.is_empty() {
            return Err(Error::invalid("syntax error: bad substitution"));
        }
        let (has_colon, operator) = rest.strip_prefix(':').map_or((false, rest.as_str()), |rest| (true, rest));
        let found = value(&name);
        let counts = if has_colon { !found.is_empty() } else { lookup(&name).is_some() };
        let word = operator.get(1..).unwrap_or_default();
        match operator.chars().next() {
            None if !has_colon => Ok(found),
            Some('-') => Ok(if counts { found } else { self.expand(word)? }),
            Some('+') => Ok(if counts { self.expand(word)? } else { String::new() }),
            Some('?') if counts => Ok(found),
            Some('?') => Err(Error::invalid(format!(
                "{name}: {}",
                if word.is_empty() { "is not allowed to be unset" } else { word }
            ))),
            _ => Err(Error::invalid(format!(
                "unsupported modifier ({}) in substitution",
                operator.chars().take(1).collect::<String>()
            ))),
        }
    }
}

fn name_of(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| *c == '_' || c.is_ascii_alphabetic() || c.is_ascii_digit()) {
        let is_positional = name.is_empty() && c.is_ascii_digit();
        name.push(c);
        if is_positional {
            break;
        }
    }
    name
}
