//! Patterns of names as Go's `path.Match` reads them: `*` and `?` (neither over `/`), `[a-z]`, `[^a]`, and `\\` before what is
//! meant as it is.

/// One step of a pattern.
#[derive(Debug)]
enum Part {
    Many,
    One,
    Literal(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// Whether a pattern can be read at all.
pub(crate) fn is_valid(pattern: &str) -> bool {
    parse(pattern).is_some()
}

/// Whether the whole text fits; nothing fits a pattern that cannot be read.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    parse(pattern).is_some_and(|parts| fits(&parts, &text))
}

/// Remembers the last `*` only: what an earlier one took needs no second look.
fn fits(parts: &[Part], text: &[char]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (parts.get(part), text.get(at)) {
            (None, None) => return true,
            (Some(Part::Many), _) => {
                star = Some((part, at));
                part += 1;
            }
            (Some(step), Some(&c)) if step.takes(c) => (part, at) = (part + 1, at + 1),
            _ => match star {
                Some((many, from)) if text.get(from).is_some_and(|c| *c != '/') => {
                    star = Some((many, from + 1));
                    (part, at) = (many + 1, from + 1);
                }
                _ => return false,
            },
        }
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Many => false,
            Part::One => c != '/',
            Part::Literal(wanted) => c == *wanted,
            Part::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Part>> {
    let mut chars = pattern.chars().peekable();
    let mut parts = Vec::new();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => Part::Many,
            '?' => Part::One,
            '\\' => Part::Literal(chars.next()?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let low = member(&mut chars)?;
                    let high = if chars.next_if_eq(&'-').is_some() { member(&mut chars)? } else { low };
                    ranges.push((low, high));
                }
                Part::Class { negated, ranges }
            }
            c => Part::Literal(c),
        });
    }
    Some(parts)
}

/// An end of a range: `-` and `]` must be escaped.
fn member(chars: &mut impl Iterator<Item = char>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, text) in [
            ("busy*", "busybox"),
            ("*/b:?", "a/b:1"),
            ("b*x*:l*t", "busybox:latest"),
            ("[ab]usy[^a-c]ox", "busyoox"),
            ("a\\*", "a*"),
            ("*", ""),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("*", "a/b"), ("?", "/"), ("busy", "busybox"), ("[^b]usybox", "busybox"), ("", "a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        for pattern in ["[", "[]a]", "[a", "[-a]", "a\\", "[a-]"] {
            assert!(!is_valid(pattern), "{pattern}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(150)));
    }
}
