//! Splits a template into text and the tokens of its actions.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Text(String),
    Open,
    Close,
    Space,
    /// `.name`
    Field(String),
    /// `$name`
    Variable(String),
    Word(String),
    /// As written.
    Number(String),
    /// The value, and as it was written.
    Quoted(String, String),
    Char(char),
    /// `:=`
    Declare,
    Assign,
    Pipe,
    LeftParen,
    RightParen,
    Dot,
    Comma,
}

pub(super) struct Located {
    pub(super) at: usize,
    pub(super) token: Token,
}

/// Deepest nesting of parentheses.
const PAREN_LIMIT: usize = 100;

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// The tokens, or where and why there are none.
pub(super) fn lex(source: &str) -> Result<Vec<Located>, (usize, String)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut trims_left = false;
    loop {
        let begin = at;
        let open = source[at..].find(OPEN).map(|found| at + found);
        let end = open.unwrap_or(source.len());
        let mut text = &source[begin..end];
        if trims_left {
            text = text.trim_start_matches([' ', '\t', '\r', '\n']);
        }
        let trims_right = open.is_some_and(|open| has_left_marker(&source[open + 2..]));
        if trims_right {
            text = text.trim_end_matches([' ', '\t', '\r', '\n']);
        }
        if !text.is_empty() {
            tokens.push(Located { at: begin, token: Token::Text(text.to_owned()) });
        }
        let Some(open) = open else { return Ok(tokens) };
        at = open + 2 + if trims_right { 2 } else { 0 };
        if source[at..].starts_with("/*") {
            (at, trims_left) = skip_comment(source, at)?;
            continue;
        }
        tokens.push(Located { at: open, token: Token::Open });
        (at, trims_left) = lex_action(source, at, open, &mut tokens)?;
    }
}

fn has_left_marker(inside: &str) -> bool {
    let mut chars = inside.chars();
    chars.next() == Some('-') && chars.next().is_some_and(char::is_whitespace)
}

fn skip_comment(source: &str, at: usize) -> Result<(usize, bool), (usize, String)> {
    let Some(end) = source[at..].find("*/").map(|found| at + found + 2) else {
        return Err((at, "unclosed comment".to_owned()));
    };
    let rest = &source[end..];
    if rest.starts_with(CLOSE) {
        return Ok((end + 2, false));
    }
    let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
    if trimmed.len() < rest.len() && trimmed.starts_with("-}}") {
        return Ok((end + rest.len() - trimmed.len() + 3, true));
    }
    Err((at, "comment ends before closing delimiter".to_owned()))
}

fn lex_action(
    source: &str,
    mut at: usize,
    open: usize,
    tokens: &mut Vec<Located>,
) -> Result<(usize, bool), (usize, String)> {
    let mut depth = 0_usize;
    loop {
        let rest = &source[at..];
        let Some(c) = rest.chars().next() else { return Err((open, "unclosed action".to_owned())) };
        if rest.starts_with(CLOSE) {
            if depth > 0 {
                return Err((at, "unclosed left paren".to_owned()));
            }
            tokens.push(Located { at, token: Token::Close });
            return Ok((at + 2, false));
        }
        if c.is_whitespace() && rest.trim_start().starts_with("-}}") && !rest.trim_start().starts_with("--") {
            let space = rest.len() - rest.trim_start().len();
            tokens.push(Located { at: at + space, token: Token::Close });
            return Ok((at + space + 3, true));
        }
        let (token, length) = next_token(rest, at)?;
        match token {
            Token::LeftParen if depth == PAREN_LIMIT => return Err((at, "max paren depth exceeded".to_owned())),
            Token::LeftParen => depth += 1,
            Token::RightParen if depth == 0 => return Err((at, "unexpected right paren".to_owned())),
            Token::RightParen => depth -= 1,
            _ => {}
        }
        tokens.push(Located { at, token });
        at += length;
    }
}

fn next_token(rest: &str, at: usize) -> Result<(Token, usize), (usize, String)> {
    let word_length = |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let c = rest.chars().next().unwrap_or_default();
    let second = rest[c.len_utf8()..].chars().next();
    Ok(match c {
        c if c.is_whitespace() => {
            // the space of a trim marker at the end belongs to the marker
            let length = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
            (Token::Space, length)
        }
        ':' if second == Some('=') => (Token::Declare, 2),
        ':' => return Err((at, "expected :=".to_owned())),
        '=' => (Token::Assign, 1),
        '|' => (Token::Pipe, 1),
        '(' => (Token::LeftParen, 1),
        ')' => (Token::RightParen, 1),
        ',' => (Token::Comma, 1),
        '"' => quoted(rest, at)?,
        '`' => {
            let Some(end) = rest[1..].find('`') else { return Err((at, "unterminated raw quoted string".to_owned())) };
            (Token::Quoted(rest[1..=end].to_owned(), rest[..end + 2].to_owned()), end + 2)
        }
        '\'' => char_constant(rest, at)?,
        '$' => {
            let length = word_length(&rest[1..]);
            (Token::Variable(rest[1..=length].to_owned()), length + 1)
        }
        '.' if second.is_some_and(|c| c.is_ascii_digit()) => number(rest, at)?,
        '.' => match word_length(&rest[1..]) {
            0 => (Token::Dot, 1),
            length => {
                ends_well(&rest[length + 1..], at + length + 1)?;
                (Token::Field(rest[1..=length].to_owned()), length + 1)
            }
        },
        '+' | '-' if second.is_some_and(|c| c.is_ascii_digit() || c == '.') => number(rest, at)?,
        c if c.is_ascii_digit() => number(rest, at)?,
        c if c.is_alphanumeric() || c == '_' => {
            let length = word_length(rest);
            ends_well(&rest[length..], at + length)?;
            (Token::Word(rest[..length].to_owned()), length)
        }
        c if c.is_ascii_graphic() => (Token::Char(c), 1),
        c => return Err((at, format!("unrecognized character in action: {}", unicode(c)))),
    })
}

fn unicode(c: char) -> String {
    format!("U+{:04X} {}", c as u32, crate::flags::check::quote_char(c))
}

/// A word must be followed by something that can follow a word.
fn ends_well(rest: &str, at: usize) -> Result<(), (usize, String)> {
    match rest.chars().next() {
        None | Some('.' | ',' | '|' | ':' | ')' | '(' | '=') => Ok(()),
        Some(c) if c.is_whitespace() => Ok(()),
        Some(_) if rest.starts_with(CLOSE) => Ok(()),
        Some(c) => Err((at, format!("bad character {}", unicode(c)))),
    }
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), (usize, String)> {
    let sign = usize::from(rest.starts_with(['+', '-']));
    let length =
        rest[sign..].find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_')).unwrap_or(rest.len() - sign);
    let mut text = &rest[..sign + length];
    // an exponent may carry a sign
    if text.ends_with(['e', 'E']) && !text.starts_with("0x") && rest[text.len()..].starts_with(['+', '-']) {
        let digits = rest[text.len() + 1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - text.len() - 1);
        text = &rest[..text.len() + 1 + digits];
    }
    if crate::flags::check::parse_int(text).is_err() && text.parse::<f64>().is_err() {
        return Err((at, format!("bad number syntax: {}", crate::flags::check::quote(text))));
    }
    Ok((Token::Number(text.to_owned()), text.len()))
}

fn quoted(rest: &str, at: usize) -> Result<(Token, usize), (usize, String)> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Quoted(value, rest[..=index].to_owned()), index + 1)),
            '\n' => break,
            '\\' => match unescape(&mut chars) {
                Some(c) => value.push(c),
                None => return Err((at, "invalid syntax".to_owned())),
            },
            c => value.push(c),
        }
    }
    Err((at, "unterminated quoted string".to_owned()))
}

fn unescape(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let (_, c) = chars.next()?;
    let mut hex = |count: usize| {
        let digits: String = chars.by_ref().take(count).map(|(_, c)| c).collect();
        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)
    };
    match c {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'v' => Some('\u{b}'),
        '\\' | '"' | '\'' => Some(c),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        _ => None,
    }
}

fn char_constant(rest: &str, at: usize) -> Result<(Token, usize), (usize, String)> {
    let mut chars = rest.char_indices().skip(1);
    let value = match chars.next() {
        Some((_, '\\')) => unescape(&mut chars),
        Some((_, c)) if c != '\'' && c != '\n' => Some(c),
        _ => None,
    };
    match (value, chars.next()) {
        (Some(value), Some((index, '\''))) => Ok((Token::Number((value as u32).to_string()), index + 1)),
        _ => Err((at, "unterminated character constant".to_owned())),
    }
}

/// A token as errors name it.
pub(super) fn describe(token: Option<&Token>) -> String {
    match token {
        None => "EOF".to_owned(),
        Some(Token::Open) => "\"{{\"".to_owned(),
        Some(Token::Close) => "\"}}\"".to_owned(),
        Some(Token::Space) => "\" \"".to_owned(),
        Some(Token::Field(name)) => format!("<.{name}>"),
        Some(Token::Variable(name)) => crate::flags::check::quote(&format!("${name}")),
        Some(Token::Word(word)) => match word.as_str() {
            "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                format!("<{word}>")
            }
            _ => crate::flags::check::quote(word),
        },
        Some(Token::Text(text) | Token::Number(text)) => crate::flags::check::quote(text),
        Some(Token::Quoted(_, text)) => crate::flags::check::quote(text),
        Some(Token::Char(c)) => crate::flags::check::quote(&c.to_string()),
        Some(Token::Declare) => "\":=\"".to_owned(),
        Some(Token::Assign) => "\"=\"".to_owned(),
        Some(Token::Pipe) => "\"|\"".to_owned(),
        Some(Token::LeftParen) => "\"(\"".to_owned(),
        Some(Token::RightParen) => "\")\"".to_owned(),
        Some(Token::Dot) => "<.>".to_owned(),
        Some(Token::Comma) => "\",\"".to_owned(),
    }
}
