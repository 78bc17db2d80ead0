//! Go's `Sprintf` for the values templates have.

use super::value::Val;
use crate::flags::check::quote;

/// Widest field we honour, as Go has it.
const WIDTH_LIMIT: usize = 1_000_000;
/// Longest precision we honour: the standard library's formatting panics a little beyond.
const PRECISION_LIMIT: usize = 50_000;

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

pub(super) fn sprintf(format: &str, args: &[Val]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        spec.width = measure(&mut chars, args, &mut next);
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(measure(&mut chars, args, &mut next).unwrap_or(0).min(PRECISION_LIMIT));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.get(next) {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(arg) => {
                    next += 1;
                    pad(&mut out, &verb_text(verb, arg, &spec), &spec);
                }
            },
        }
    }
    if next < args.len() {
        let extra: Vec<String> =
            args[next..].iter().map(|arg| format!("{}={}", arg.type_name(), arg.print())).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// A width or precision: digits, or `*` for an argument.
fn measure(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, args: &[Val], next: &mut usize) -> Option<usize> {
    if chars.peek() == Some(&'*') {
        chars.next();
        *next += 1;
        return match args.get(*next - 1) {
            Some(Val::Int(number)) => usize::try_from(*number).ok().filter(|number| *number <= WIDTH_LIMIT),
            _ => None,
        };
    }
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        number = Some((number.unwrap_or(0) * 10 + digit as usize).min(WIDTH_LIMIT));
        chars.next();
    }
    number
}

fn pad(out: &mut String, text: &str, spec: &Spec) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if spec.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else if spec.zero && missing > 0 {
        let sign = usize::from(text.starts_with(['-', '+']));
        out.push_str(&text[..sign]);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(&text[sign..]);
    } else {
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(text);
    }
}

fn verb_text(verb: char, arg: &Val, spec: &Spec) -> String {
    let cut = |text: &str| match spec.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    };
    match (verb, arg) {
        ('T', arg) => arg.type_name(),
        ('v', Val::Text(text)) if spec.sharp => quote(text),
        ('v', Val::Missing) => "<nil>".to_owned(),
        ('v', Val::Int(number)) => signed(*number, spec),
        ('v', Val::Text(text)) | ('s', Val::Text(text)) => cut(text),
        ('v', other) => other.print(),
        ('q', Val::Text(text)) => quote(&cut(text)),
        ('x', Val::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Val::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('d', Val::Int(number)) => signed(*number, spec),
        ('x', Val::Int(number)) => radix(*number, spec, "0x", |n| format!("{n:x}")),
        ('X', Val::Int(number)) => radix(*number, spec, "0X", |n| format!("{n:X}")),
        ('o', Val::Int(number)) => radix(*number, spec, "0", |n| format!("{n:o}")),
        ('b', Val::Int(number)) => radix(*number, spec, "0b", |n| format!("{n:b}")),
        ('c', Val::Int(number)) => {
            u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('q', Val::Int(number)) => {
            crate::flags::check::quote_char(u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'))
        }
        ('U', Val::Int(number)) => format!("U+{number:04X}"),
        ('t', Val::Bool(value)) => value.to_string(),
        ('f' | 'F', Val::Float(number)) => format!("{number:.*}", spec.precision.unwrap_or(6)),
        ('g', Val::Float(number)) => match spec.precision {
            Some(digits) => crate::format::units::significant(*number, digits.max(1)),
            None => super::value::go_float(*number),
        },
        ('e', Val::Float(number)) => {
            let text = format!("{number:.*e}", spec.precision.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or_default();
            format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        // verbs apply to the elements of lists
        ('s' | 'q' | 'd' | 'x', other) if other.items().is_some() => {
            let items = other.items().unwrap_or_default();
            let items: Vec<String> = items.iter().map(|item| verb_text(verb, item, spec)).collect();
            format!("[{}]", items.join(" "))
        }
        ('s', Val::Missing) => "%!s(<nil>)".to_owned(),
        ('s', Val::Json(..) | Val::Nil(_) | Val::Object(_)) => arg.print(),
        ('b' | 'c' | 'd' | 'e' | 'f' | 'F' | 'g' | 'o' | 'q' | 's' | 't' | 'U' | 'x' | 'X', other) => {
            format!("%!{verb}({}={})", other.type_name(), other.print())
        }
        (verb, other) => format!("%!{verb}({}={})", other.type_name(), other.print()),
    }
}

fn signed(number: i64, spec: &Spec) -> String {
    match number {
        number if number >= 0 && spec.plus => format!("+{number}"),
        number if number >= 0 && spec.space => format!(" {number}"),
        number => number.to_string(),
    }
}

fn radix(number: i64, spec: &Spec, prefix: &str, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}{}", if spec.sharp { prefix } else { "" }, digits(number.unsigned_abs()))
}
