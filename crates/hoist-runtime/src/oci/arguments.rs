//! The command line in runc's manner: flags with one or two dashes before the first plain word, `--flag value` or
//! `--flag=value`. Knows no command.

use std::ffi::OsString;

/// A flag that a command takes; the first name is what its value is found by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub(super) names: &'static [&'static str],
    pub(super) takes_value: bool,
}

pub(super) const fn switch(names: &'static [&'static str]) -> Flag {
    Flag { names, takes_value: false }
}

pub(super) const fn value(names: &'static [&'static str]) -> Flag {
    Flag { names, takes_value: true }
}

/// A parsed part of a command line.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    flags: Vec<(&'static str, String)>,
    /// What follows the flags.
    pub(super) rest: Vec<String>,
}

impl Arguments {
    /// The error names what is wrong.
    pub(super) fn parse(words: Vec<String>, known: &[Flag]) -> Result<Arguments, String> {
        let mut parsed = Arguments::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|name| !name.is_empty())
            else {
                parsed.rest.push(word);
                break;
            };
            let (name, given) = match name.split_once('=') {
                Some((name, given)) => (name, Some(given.to_owned())),
                None => (name, None),
            };
            let flag = known
                .iter()
                .find(|flag| flag.names.contains(&name))
                .ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
            let given = match (flag.takes_value, given) {
                (true, Some(given)) => given,
                (true, None) => words.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
                (false, None) => "true".to_owned(),
                (false, Some(given)) => match given.as_str() {
                    "true" | "1" | "t" => "true".to_owned(),
                    "false" | "0" | "f" => continue,
                    _ => return Err(format!("invalid boolean value {given:?} for -{name}")),
                },
            };
            parsed.flags.push((flag.names[0], given));
        }
        parsed.rest.extend(words);
        Ok(parsed)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|(flag, _)| *flag == name)
    }

    /// The last value given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// A number, if given.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        self.get(name)
            .map(|text| text.parse().map_err(|_| format!("invalid value {text:?} for flag -{name}")))
            .transpose()
    }

    /// Takes the container id, the first plain word.
    pub(super) fn take_id(&mut self) -> Result<String, String> {
        if self.rest.is_empty() {
            return Err("container id cannot be empty".to_owned());
        }
        Ok(self.rest.remove(0))
    }

    pub(super) fn refuse_rest(&self) -> Result<(), String> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(format!("unexpected argument {word:?}")),
        }
    }
}

/// Paths in OCI's files are text, so words that are no UTF-8 cannot name anything there.
pub(super) fn words(arguments: Vec<OsString>) -> Result<Vec<String>, String> {
    arguments
        .into_iter()
        .map(|word| word.into_string().map_err(|word| format!("argument {word:?} is not valid UTF-8")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[value(&["bundle", "b"]), value(&["env", "e"]), switch(&["tty", "t"])];

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|&word| word.to_owned()).collect(), FLAGS)
    }

    #[test]
    fn flags_end_at_the_first_plain_word() {
        let parsed = parse(&["-b", "/x", "--env=A=1", "-e", "B=2", "--tty", "id", "-t", "--"]).unwrap();
        assert_eq!(parsed.get("bundle"), Some("/x"));
        assert_eq!(parsed.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert!(parsed.has("tty"));
        assert_eq!(parsed.rest, ["id", "-t", "--"]);
        assert!(!parse(&["--tty=false"]).unwrap().has("tty"));
        assert_eq!(parse(&["--", "-b"]).unwrap().rest, ["-b"]);
    }

    #[test]
    fn unknown_and_unfinished_flags_are_refused_as_runc_does() {
        assert_eq!(parse(&["--nope"]).unwrap_err(), "flag provided but not defined: -nope");
        assert_eq!(parse(&["--bundle"]).unwrap_err(), "flag needs an argument: -bundle");
        assert!(parse(&["--tty=maybe"]).is_err());
    }
}
