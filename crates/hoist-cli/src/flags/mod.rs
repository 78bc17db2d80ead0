//! Flags as data and their parser, with the rules of the parser Docker's CLI is built on: `--name=value`,
//! `--name value`, `-n value`, `-nvalue`, `-n=value`, clustered switches, `--` ends flags, switches take a value only
//! after `=`. Commands that run a program stop at the first operand.
//!
//! The tables are `static`: starting a command builds nothing. Help text is `help`'s, checks of values are `check`'s.

pub(crate) mod check;
pub(crate) mod help;

use crate::commands::Command;

/// Tests a value as typed; the text of the error is what follows `invalid argument … for … flag: `.
pub(crate) type Check = fn(&str) -> Result<(), String>;

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Switch,
    /// Takes a value; the name is shown in help texts.
    Value(&'static str, Check),
}

#[derive(Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    /// `'\0'` for none.
    pub(crate) short: char,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    /// Shown in help texts, as typed on a command line.
    pub(crate) default: &'static str,
    pub(crate) hidden: bool,
}

/// A switch.
pub(crate) const fn switch(short: char, long: &'static str, help: &'static str) -> Flag {
    Flag { long, short, kind: Kind::Switch, help, default: "", hidden: false }
}

/// A flag with a value.
pub(crate) const fn value(
    short: char,
    long: &'static str,
    name: &'static str,
    check: Check,
    help: &'static str,
) -> Flag {
    Flag { long, short, kind: Kind::Value(name, check), help, default: "", hidden: false }
}

/// A flag whose value may be any text.
pub(crate) const fn text(short: char, long: &'static str, help: &'static str) -> Flag {
    value(short, long, "string", check::any, help)
}

/// A flag that may be given several times, each with any text.
pub(crate) const fn list(short: char, long: &'static str, help: &'static str) -> Flag {
    value(short, long, "list", check::any, help)
}

impl Flag {
    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    pub(crate) const fn hide(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// `-m, --memory`
    fn spelled(&self) -> String {
        match self.short {
            '\0' => format!("--{}", self.long),
            short => format!("-{short}, --{}", self.long),
        }
    }
}

/// A parsed command line below one command.
#[derive(Default)]
pub(crate) struct Parsed {
    values: Vec<(&'static str, String)>,
    pub(crate) args: Vec<String>,
    pub(crate) wants_help: bool,
}

impl Parsed {
    /// The last value given.
    pub(crate) fn get(&self, long: &str) -> Option<&str> {
        self.values.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// The last value given, else nothing.
    pub(crate) fn text(&self, long: &str) -> &str {
        self.get(long).unwrap_or_default()
    }

    /// The last value given, unless it is empty.
    pub(crate) fn filled(&self, long: &str) -> Option<&str> {
        self.get(long).filter(|value| !value.is_empty())
    }

    /// All values given, in order.
    pub(crate) fn all(&self, long: &str) -> Vec<&str> {
        self.values.iter().filter(|(name, _)| *name == long).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn owned(&self, long: &str) -> Vec<String> {
        self.all(long).into_iter().map(str::to_owned).collect()
    }

    pub(crate) fn is(&self, long: &str) -> bool {
        self.is_or(long, false)
    }

    pub(crate) fn is_or(&self, long: &str, default: bool) -> bool {
        self.get(long).and_then(check::parse_bool).unwrap_or(default)
    }

    pub(crate) fn has(&self, long: &str) -> bool {
        self.get(long).is_some()
    }

    /// The value as an integer; its check has passed, so only an absent flag gives nothing.
    pub(crate) fn int(&self, long: &str) -> Option<i64> {
        self.get(long).and_then(|text| check::parse_int(text).ok())
    }

    #[cfg(test)]
    pub(crate) fn set(&mut self, long: &'static str, value: impl Into<String>) {
        self.values.push((long, value.into()));
    }
}

const HELP: Flag = switch('\0', "help", "Print usage");

/// Parses what follows a command's name.
pub(crate) fn parse(command: &Command, args: &[String]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.args.extend(rest.cloned());
            break;
        }
        let done = if let Some(long) = arg.strip_prefix("--") {
            parse_long(command, long, &mut rest, &mut parsed)?
        } else if arg.len() > 1 && arg.starts_with('-') {
            parse_short(command, &arg[1..], &mut rest, &mut parsed)?
        } else {
            parsed.args.push(arg.clone());
            if command.stops_at_operand {
                parsed.args.extend(rest.cloned());
                break;
            }
            false
        };
        if done {
            break;
        }
    }
    Ok(parsed)
}

fn find(command: &Command, matches: impl Fn(&Flag) -> bool) -> Option<Flag> {
    command.all_flags().chain([&HELP]).find(|flag| matches(flag)).copied()
}

/// Returns whether help was asked for, which ends parsing.
fn parse_long(
    command: &Command,
    arg: &str,
    rest: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<bool, String> {
    let (name, given) = match arg.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (arg, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: --{arg}"));
    }
    let Some(flag) = find(command, |flag| flag.long == name || command.renamed(name) == Some(flag.long)) else {
        return Err(format!("unknown flag: --{name}"));
    };
    if flag.long == HELP.long && given.is_none_or(|value| check::parse_bool(value) == Some(true)) {
        parsed.wants_help = true;
        return Ok(true);
    }
    let value = match (given, flag.kind) {
        (Some(value), _) => value,
        (None, Kind::Switch) => "true",
        (None, Kind::Value(..)) => rest.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    store(&flag, value, parsed)?;
    Ok(false)
}

fn parse_short(
    command: &Command,
    cluster: &str,
    rest: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<bool, String> {
    let mut left = cluster;
    while let Some(short) = left.chars().next() {
        let behind = &left[short.len_utf8()..];
        let Some(flag) = find(command, |flag| flag.short == short && short != '\0') else {
            if short == 'h' {
                parsed.wants_help = true;
                return Ok(true);
            }
            return Err(format!("unknown shorthand flag: {} in -{left}", check::quote_char(short)));
        };
        match (flag.kind, behind.strip_prefix('=')) {
            (_, Some(value)) => {
                store(&flag, value, parsed)?;
                return Ok(false);
            }
            (Kind::Switch, None) => store(&flag, "true", parsed)?,
            (Kind::Value(..), None) if !behind.is_empty() => {
                store(&flag, behind, parsed)?;
                return Ok(false);
            }
            (Kind::Value(..), None) => {
                let missing = || format!("flag needs an argument: {} in -{left}", check::quote_char(short));
                store(&flag, rest.next().ok_or_else(missing)?, parsed)?;
                return Ok(false);
            }
        }
        left = behind;
    }
    Ok(false)
}

fn store(flag: &Flag, value: &str, parsed: &mut Parsed) -> Result<(), String> {
    let checked = match flag.kind {
        Kind::Switch => check::boolean(value),
        Kind::Value(_, check) => check(value),
    };
    checked
        .map_err(|why| format!("invalid argument {} for \"{}\" flag: {why}", check::quote(value), flag.spelled()))?;
    parsed.values.push((flag.long, value.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests;
