//! The functions of templates: Go's predeclared ones and Docker's.

use std::cmp::Ordering;

use hoist_api::query::escape_form;

use super::{
    access::index,
    printf::sprintf,
    value::{Nil, Val},
};
use crate::format::json;

/// Why a call failed: inside the function, or an argument of a wrong type.
pub(super) enum Why {
    Call(String),
    /// No value of a template is a function.
    NoFunction {
        got: String,
    },
    Type {
        index: usize,
        expected: &'static str,
        got: Option<String>,
    },
}

impl From<String> for Why {
    fn from(why: String) -> Self {
        Self::Call(why)
    }
}

/// Name, fewest and most arguments.
const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("and", 1, usize::MAX),
    ("or", 1, usize::MAX),
    ("call", 1, usize::MAX),
    ("not", 1, 1),
    ("len", 1, 1),
    ("index", 1, usize::MAX),
    ("slice", 1, 4),
    ("print", 0, usize::MAX),
    ("println", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("html", 0, usize::MAX),
    ("js", 0, usize::MAX),
    ("urlquery", 0, usize::MAX),
    ("eq", 1, usize::MAX),
    ("ne", 2, 2),
    ("lt", 2, 2),
    ("le", 2, 2),
    ("gt", 2, 2),
    ("ge", 2, 2),
    ("json", 1, 1),
    ("split", 2, 2),
    ("join", 2, 2),
    ("title", 1, 1),
    ("lower", 1, 1),
    ("upper", 1, 1),
    ("pad", 3, 3),
    ("truncate", 2, 2),
];

pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// Functions that leave the titles of columns alone.
pub(super) fn is_docker(name: &str) -> bool {
    matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate")
}

pub(super) fn check_count(name: &str, count: usize) -> Result<(), String> {
    let Some((_, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(format!("\"{name}\" is not a defined function"));
    };
    if count < *least && *most == usize::MAX {
        return Err(format!("wrong number of args for {name}: want at least {least} got {count}"));
    }
    if count < *least || count > *most {
        return Err(format!("wrong number of args for {name}: want {least} got {count}"));
    }
    Ok(())
}

pub(super) fn call(name: &str, args: &[Val]) -> Result<Val, Why> {
    Ok(match name {
        "call" if matches!(args[0], Val::Missing | Val::Nil(_)) => return Err(Why::Call("call of nil".to_owned())),
        "call" => return Err(Why::NoFunction { got: args[0].type_name() }),
        "not" => Val::Bool(!args[0].is_true()),
        "len" => Val::Int(length(&args[0])?),
        "index" => args[1..].iter().try_fold(args[0].clone(), |value, key| index(&value, key))?,
        "slice" => slice(&args[0], &args[1..])?,
        "print" => Val::Text(print(args)),
        "println" => {
            let words: Vec<String> = args.iter().map(Val::print).collect();
            Val::Text(format!("{}\n", words.join(" ")))
        }
        "printf" => Val::Text(sprintf(text(args, 0)?, &args[1..])),
        "html" => Val::Text(escape_html(&print(args))),
        "js" => Val::Text(escape_js(&print(args))),
        "urlquery" => Val::Text(escape_form(&print(args))),
        "eq" => return equals(args),
        "ne" => Val::Bool(compare(&args[0], &args[1])? != Some(Ordering::Equal)),
        "lt" | "le" | "gt" | "ge" => Val::Bool(ordered(name, &args[0], &args[1])?),
        "json" => Val::Text(encode_json(&args[0])),
        "split" => Val::List(split(text(args, 0)?, text(args, 1)?)),
        "join" => Val::Text(join(&args[0], text(args, 1)?)?),
        "title" => Val::Text(title(text(args, 0)?)),
        "lower" => Val::Text(text(args, 0)?.to_lowercase()),
        "upper" => Val::Text(text(args, 0)?.to_uppercase()),
        "pad" => {
            let source = text(args, 0)?;
            let spaces = |index| Ok::<_, Why>(" ".repeat(int(args, index)?.clamp(0, 10_000) as usize));
            Val::Text(if source.is_empty() { String::new() } else { spaces(1)? + source + &spaces(2)? })
        }
        "truncate" => {
            let (source, most) = (text(args, 0)?, usize::try_from(int(args, 1)?).unwrap_or_default());
            let cut = if source.len() < most { source.as_bytes() } else { &source.as_bytes()[..most] };
            Val::Text(String::from_utf8_lossy(cut).into_owned())
        }
        _ => return Err(Why::Call(format!("{name} is not a function"))),
    })
}

fn text(args: &[Val], at: usize) -> Result<&str, Why> {
    match &args[at] {
        Val::Text(text) => Ok(text),
        Val::Missing => Err(Why::Type { index: at, expected: "string", got: None }),
        other => Err(Why::Type { index: at, expected: "string", got: Some(other.type_name()) }),
    }
}

fn int(args: &[Val], at: usize) -> Result<i64, Why> {
    match &args[at] {
        Val::Int(number) => Ok(*number),
        other => Err(Why::Type { index: at, expected: "int", got: Some(other.type_name()) }),
    }
}

fn length(value: &Val) -> Result<i64, String> {
    let count = match value {
        Val::Text(text) => text.len(),
        Val::Missing => return Err("len of untyped nil".to_owned()),
        other => match (other.items(), other.entries()) {
            (Some(items), _) => items.len(),
            (_, Some(entries)) => entries.len(),
            _ => return Err(format!("len of type {}", other.type_name())),
        },
    };
    Ok(count as i64)
}

fn slice(value: &Val, bounds: &[Val]) -> Result<Val, String> {
    let items = value.items();
    let full = match (value, &items) {
        (Val::Text(text), _) => text.len(),
        (_, Some(items)) => items.len(),
        (Val::Missing, _) => return Err("slice of untyped nil".to_owned()),
        (other, _) => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() == 3 && items.is_none() {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let mut at = [0, full];
    for (slot, bound) in at.iter_mut().zip(bounds) {
        let Val::Int(number) = bound else {
            return Err(format!("cannot index slice/array with type {}", bound.type_name()));
        };
        *slot = usize::try_from(*number)
            .ok()
            .filter(|number| *number <= full)
            .ok_or_else(|| format!("index out of range: {number}"))?;
    }
    let [from, to] = at;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match (value, items) {
        (Val::Text(text), _) => Val::Text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        (_, items) => Val::List(items.unwrap_or_default()[from..to].to_vec()),
    })
}

/// Go's `Sprint`: a space between operands when neither is text.
fn print(args: &[Val]) -> String {
    let mut out = String::new();
    for (index, arg) in args.iter().enumerate() {
        let is_text = |value: &Val| matches!(value, Val::Text(_));
        if index > 0 && !is_text(arg) && !is_text(&args[index - 1]) {
            out.push(' ');
        }
        out.push_str(&arg.print());
    }
    out
}

fn equals(args: &[Val]) -> Result<Val, Why> {
    if args.len() < 2 {
        return Err(Why::Call("missing argument for comparison".to_owned()));
    }
    for other in &args[1..] {
        if compare(&args[0], other)? == Some(Ordering::Equal) {
            return Ok(Val::Bool(true));
        }
    }
    Ok(Val::Bool(false))
}

/// The order of two values of one kind; `None` for values that only can be unequal.
fn compare(left: &Val, right: &Val) -> Result<Option<Ordering>, String> {
    let is_nil = |value: &Val| matches!(value, Val::Missing | Val::Nil(Nil::Pointer));
    match (left, right) {
        (Val::Bool(left), Val::Bool(right)) => Ok(Some(left.cmp(right))),
        (Val::Int(left), Val::Int(right)) => Ok(Some(left.cmp(right))),
        (Val::Float(left), Val::Float(right)) => Ok(left.partial_cmp(right)),
        (Val::Text(left), Val::Text(right)) => Ok(Some(left.cmp(right))),
        (left, right) if is_nil(left) && is_nil(right) => Ok(Some(Ordering::Equal)),
        (left, right) if is_nil(left) || is_nil(right) => Ok(None),
        (Val::List(_) | Val::Json(..) | Val::Object(_) | Val::Nil(_), _)
        | (_, Val::List(_) | Val::Json(..) | Val::Object(_) | Val::Nil(_)) => Err("non-comparable types".to_owned()),
        (left, right) => {
            let (left, right) = (left.type_name(), right.type_name());
            Err(format!("incompatible types for comparison: {left} and {right}"))
        }
    }
}

fn ordered(name: &str, left: &Val, right: &Val) -> Result<bool, String> {
    let basic = |value: &Val| matches!(value, Val::Int(_) | Val::Float(_) | Val::Text(_));
    if !basic(left) || !basic(right) {
        return Err("invalid type for comparison".to_owned());
    }
    let order = compare(left, right)?;
    Ok(match name {
        "lt" => order == Some(Ordering::Less),
        "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "gt" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

fn split(source: &str, separator: &str) -> Vec<Val> {
    if separator.is_empty() {
        return source.chars().map(|c| Val::Text(c.to_string())).collect();
    }
    source.split(separator).map(Val::text).collect()
}

fn join(value: &Val, separator: &str) -> Result<String, String> {
    if let Some(items) = value.items() {
        return Ok(items.iter().map(Val::print).collect::<Vec<_>>().join(separator));
    }
    if let Some(entries) = value.entries() {
        let mut values: Vec<String> = entries.iter().map(|(_, value)| value.print()).collect();
        values.sort();
        return Ok(values.join(separator));
    }
    match value {
        Val::Missing | Val::Nil(_) => Ok(String::new()),
        other => Err(format!("expected slice, got {}", other.type_name())),
    }
}

fn title(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut inside = false;
    for c in source.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

fn escape_html(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for c in source.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for c in source.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Rows of lists escape what HTML would read, as Go does inside `MarshalJSON`; other values are printed as they are.
fn encode_json(value: &Val) -> String {
    let text = json::encode(&value.to_json());
    match value {
        Val::Object(_) => json::escape_html(&text),
        _ => text,
    }
}
